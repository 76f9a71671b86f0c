// memset for the build under ThreadSanitizer, which replaces libc's and takes that one's writes for FAISS's only ones:
// it sees FAISS fill the end of a list of links, beside walks that read it, and none of the locks and stores around
// that. Words of four bytes, aligned, of which no store of memset ends within one. Defined here, it comes first, and is
// as little instrumented as FAISS is.
#include <cstddef>

extern "C" __attribute__((no_sanitize("thread"), optimize("no-tree-loop-distribute-patterns"))) void* memset(
    void* to, int value, size_t size) {
  auto* bytes = static_cast<unsigned char*>(to);
  for (size_t i = 0; i < size; i++) bytes[i] = static_cast<unsigned char>(value);
  return to;
}
