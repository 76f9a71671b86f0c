// Replaces faiss::fvec_inner_product and faiss::fvec_L2sqr at link time.
//
// Debian builds libfaiss for baseline x86-64, where both are a scalar loop. The definitions here come
// first on the linker's command line and win under --allow-multiple-definition, so FAISS's own graph
// walk runs on them too.
//
// Every clone adds in the same order (64 lanes, then a fixed tree) and the file is compiled with
// -ffp-contract=off, so every clone gives the same bits: a search has the same hits on every machine.
// Two loads per multiplication bind the loop, so leaving out fused multiply-add costs nothing.
//
// Dispatch is a table and a pointer of ours, not target_clones: an ifunc is resolved before the
// sanitizers are up, and cannot be set to each clone in turn by a test.
#include "kernels.h"

#include <faiss/utils/distances.h>

#include <atomic>
#include <cstring>

namespace faiss {
// In the library, in no header: what fvec_inner_product and fvec_L2sqr are in Debian's build.
float fvec_inner_product_ref(const float* x, const float* y, size_t d);
float fvec_L2sqr_ref(const float* x, const float* y, size_t d);
}  // namespace faiss

namespace reid {
namespace {

typedef float lanes __attribute__((vector_size(64)));

inline __attribute__((always_inline)) lanes load(const float* x) {
  lanes v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

/// Adds 16 lanes in a fixed tree.
inline __attribute__((always_inline)) float sum(const lanes& v) {
  float part[16];
  std::memcpy(part, &v, sizeof part);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; i++) part[i] += part[i + width];
  }
  return part[0];
}

struct Product {
  static inline __attribute__((always_inline)) lanes of(lanes x, lanes y) { return x * y; }
  static inline __attribute__((always_inline)) float of(float x, float y) { return x * y; }
};

struct SquaredDifference {
  static inline __attribute__((always_inline)) lanes of(lanes x, lanes y) { return (x - y) * (x - y); }
  static inline __attribute__((always_inline)) float of(float x, float y) { return (x - y) * (x - y); }
};

typedef uint16_t half_lanes __attribute__((vector_size(32)));
typedef uint8_t byte_lanes __attribute__((vector_size(16)));
typedef int32_t whole_lanes __attribute__((vector_size(64)));
typedef uint32_t bit_lanes __attribute__((vector_size(64)));

/// binary16 as the upper bits of a float that is 2^112 times too small, put right by one product: exact, and it
/// takes subnormal numbers along. Infinity and NaN cannot occur: features are finite and at most one.
constexpr float kHalfScale = 5.192296858534828e33f;  // 2^112

inline __attribute__((always_inline)) lanes load(const uint16_t* x) {
  half_lanes halves;
  std::memcpy(&halves, x, sizeof halves);
  const bit_lanes wide = __builtin_convertvector(halves, bit_lanes);
  const bit_lanes bits = ((wide & 0x7fffu) << 13) | ((wide & 0x8000u) << 16);
  lanes v;
  std::memcpy(&v, &bits, sizeof v);
  return v * kHalfScale;
}

inline __attribute__((always_inline)) lanes load(const uint8_t* x) {
  byte_lanes bytes;
  std::memcpy(&bytes, x, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, whole_lanes), lanes);
}

// Copied, as the lanes are: rows in a file that is mapped lie at any address.
inline __attribute__((always_inline)) float one(const float* x) {
  float v;
  std::memcpy(&v, x, sizeof v);
  return v;
}
inline __attribute__((always_inline)) float one(const uint8_t* x) { return float(*x); }
inline __attribute__((always_inline)) float one(const uint16_t* x) {
  uint16_t half;
  std::memcpy(&half, x, sizeof half);
  const uint32_t bits = ((uint32_t(half) & 0x7fffu) << 13) | ((uint32_t(half) & 0x8000u) << 16);
  float v;
  std::memcpy(&v, &bits, sizeof v);
  return v * kHalfScale;
}

template <class Term, class Element>
inline __attribute__((always_inline)) float accumulate(const float* x, const Element* y, size_t d) {
  lanes a = {}, b = {}, c = {}, e = {};
  size_t i = 0;
  for (; i + 64 <= d; i += 64) {
    a += Term::of(load(x + i), load(y + i));
    b += Term::of(load(x + i + 16), load(y + i + 16));
    c += Term::of(load(x + i + 32), load(y + i + 32));
    e += Term::of(load(x + i + 48), load(y + i + 48));
  }
  for (; i + 16 <= d; i += 16) a += Term::of(load(x + i), load(y + i));
  float tail = 0;
  for (; i < d; i++) tail += Term::of(one(x + i), one(y + i));
  lanes total = (a + b) + (c + e);
  return sum(total) + tail;
}

template <class Element>
using KernelOf = float (*)(const float*, const Element*, size_t);
typedef KernelOf<float> Kernel;

struct Clone {
  const char* name;
  bool (*runs_here)();
  Kernel inner_product;
  Kernel l2_squared;
  KernelOf<uint16_t> inner_product_halves;
  KernelOf<uint8_t> inner_product_bytes;
};

bool always() { return true; }

float product_baseline(const float* x, const float* y, size_t d) { return accumulate<Product>(x, y, d); }
float distance_baseline(const float* x, const float* y, size_t d) {
  return accumulate<SquaredDifference>(x, y, d);
}

float halves_baseline(const float* x, const uint16_t* y, size_t d) { return accumulate<Product>(x, y, d); }
float bytes_baseline(const float* x, const uint8_t* y, size_t d) { return accumulate<Product>(x, y, d); }

#if defined(__x86_64__)
__attribute__((target("avx2"))) float halves_avx2(const float* x, const uint16_t* y, size_t d) {
  return accumulate<Product>(x, y, d);
}
__attribute__((target("avx2"))) float bytes_avx2(const float* x, const uint8_t* y, size_t d) {
  return accumulate<Product>(x, y, d);
}
__attribute__((target("avx512f"))) float halves_avx512(const float* x, const uint16_t* y, size_t d) {
  return accumulate<Product>(x, y, d);
}
__attribute__((target("avx512f"))) float bytes_avx512(const float* x, const uint8_t* y, size_t d) {
  return accumulate<Product>(x, y, d);
}
__attribute__((target("avx2"))) float product_avx2(const float* x, const float* y, size_t d) {
  return accumulate<Product>(x, y, d);
}
__attribute__((target("avx2"))) float distance_avx2(const float* x, const float* y, size_t d) {
  return accumulate<SquaredDifference>(x, y, d);
}
__attribute__((target("avx512f"))) float product_avx512(const float* x, const float* y, size_t d) {
  return accumulate<Product>(x, y, d);
}
__attribute__((target("avx512f"))) float distance_avx512(const float* x, const float* y, size_t d) {
  return accumulate<SquaredDifference>(x, y, d);
}
bool has_avx2() { return __builtin_cpu_supports("avx2"); }
bool has_avx512() { return __builtin_cpu_supports("avx512f"); }
#endif

// The table of clones, slowest first; the last that runs here is used. The library has no loops of its own for
// halves and bytes.
const Clone clones[] = {
    {"faiss", always, faiss::fvec_inner_product_ref, faiss::fvec_L2sqr_ref, halves_baseline, bytes_baseline},
    {"baseline", always, product_baseline, distance_baseline, halves_baseline, bytes_baseline},
#if defined(__x86_64__)
    {"avx2", has_avx2, product_avx2, distance_avx2, halves_avx2, bytes_avx2},
    {"avx512", has_avx512, product_avx512, distance_avx512, halves_avx512, bytes_avx512},
#endif
};

const Clone* best() {
  const Clone* found = clones;
  for (const Clone& clone : clones) {
    if (clone.runs_here()) found = &clone;
  }
  return found;
}

std::atomic<const Clone*> in_use{best()};

}  // namespace

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const Clone& clone : clones) {
    if (clone.runs_here()) names.push_back(clone.name);
  }
  return names;
}

bool use_kernel(const std::string& name) {
  for (const Clone& clone : clones) {
    if (name == clone.name && clone.runs_here()) {
      in_use.store(&clone);
      return true;
    }
  }
  return false;
}

std::string kernel_in_use() { return in_use.load()->name; }

float inner_product(const float* x, const float* y, size_t d) {
  return in_use.load(std::memory_order_relaxed)->inner_product(x, y, d);
}

float squared_distance(const float* x, const float* y, size_t d) {
  return in_use.load(std::memory_order_relaxed)->l2_squared(x, y, d);
}

float inner_product_halves(const float* x, const uint16_t* y, size_t d) {
  return in_use.load(std::memory_order_relaxed)->inner_product_halves(x, y, d);
}

float inner_product_bytes(const float* x, const uint8_t* y, size_t d) {
  return in_use.load(std::memory_order_relaxed)->inner_product_bytes(x, y, d);
}

void floats_from_halves(const uint16_t* halves, float* floats, size_t d) {
  for (size_t i = 0; i < d; i++) floats[i] = one(halves + i);
}

}  // namespace reid

namespace faiss {

float fvec_inner_product(const float* x, const float* y, size_t d) { return reid::inner_product(x, y, d); }

float fvec_L2sqr(const float* x, const float* y, size_t d) { return reid::squared_distance(x, y, d); }

}  // namespace faiss
