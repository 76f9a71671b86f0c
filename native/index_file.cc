// VectorIndex to a file and back. Layout: docs/formats.md, "Index file".
#include <faiss/impl/io.h>
#include <faiss/index_io.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "digest.h"
#include "vector_index.h"

namespace reid {
namespace {

const char kMagic[7] = {'R', 'E', 'I', 'D', 'I', 'D', 'X'};

struct Header {
  char magic[7];
  char version;  // a digit
  char kind[16];
  uint64_t dimension;
  uint64_t count;
  int32_t m;
  int32_t ef_construction;
  int32_t ef_search;
  int32_t is_trained;
};
static_assert(sizeof(Header) == 56, "the layout is in docs/formats.md");

/// Since version 2, behind the header.
struct Storing {
  char storage[16];
  int32_t lists;
  int32_t probes;
  int32_t segments;
  int32_t bits;
  double error;
};
static_assert(sizeof(Storing) == 40, "the layout is in docs/formats.md");

struct File {
  explicit File(FILE* handle) : handle(handle) {}
  ~File() {
    if (handle) std::fclose(handle);
  }
  FILE* handle;
};

struct FileWriter : faiss::IOWriter {
  explicit FileWriter(FILE* file) : file(file) {}
  size_t operator()(const void* data, size_t size, size_t count) override {
    if (size * count == 0) return count;  // an empty array may lie at nullptr, which nothing below may be given
    digest.add(data, size * count);
    return std::fwrite(data, size, count, file);
  }
  FILE* file;
  Digest digest;
};

[[noreturn]] void corrupt(const std::string& cause) { throw Failure("SNAPSHOT_CORRUPT", cause); }

/// Compares everything but the last word with that word, and goes back to where it was.
void check_digest(FILE* file, uint64_t bytes) {
  Digest digest;
  std::vector<uint8_t> block(1 << 20);
  std::rewind(file);
  for (uint64_t left = bytes - sizeof(uint64_t); left > 0;) {
    const size_t some = std::min<uint64_t>(left, block.size());
    if (std::fread(block.data(), 1, some, file) != some) corrupt("cannot be read to its end");
    digest.add(block.data(), some);
    left -= some;
  }
  uint64_t written;
  if (std::fread(&written, sizeof written, 1, file) != 1) corrupt("cannot be read to its end");
  if (written != digest.value()) corrupt("its checksum differs");
}

template <class Value>
void read(FILE* file, Value& value) {
  if (std::fread(&value, sizeof value, 1, file) != 1) corrupt("shorter than its header");
}

bool is_within(int32_t value, int32_t low, int32_t high) { return value >= low && value <= high; }

}  // namespace

void VectorIndex::save(const std::string& path) const {
  if (body_->is_mapped) throw Failure("FAILED_PRECONDITION", "its lists lie in a file: copy that");
  File file(std::fopen(path.c_str(), "wbxe"));
  if (!file.handle) throw Failure("IO", path + ": " + std::strerror(errno));
  const auto failed = [&] {
    const int error = errno;
    unlink(path.c_str());
    throw Failure("IO", path + ": " + std::strerror(error));
  };
  const Body& body = *body_;
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = '2';
  std::strncpy(header.kind, kind_->name, sizeof header.kind - 1);
  header.dimension = uint64_t(dimension_);
  header.count = uint64_t(body.index().ntotal);
  header.m = parameters_.m;
  header.ef_construction = parameters_.ef_construction;
  header.ef_search = parameters_.ef_search;
  header.is_trained = trained_;
  Storing storing = {};
  std::strncpy(storing.storage, name_of(parameters_.storage), sizeof storing.storage - 1);
  storing.lists = parameters_.lists;
  storing.probes = parameters_.probes;
  storing.segments = parameters_.segments;
  storing.bits = parameters_.bits;
  storing.error = double(body.error());
  FileWriter writer(file.handle);
  if (writer(&header, sizeof header, 1) != 1 || writer(&storing, sizeof storing, 1) != 1) failed();
  const std::vector<int64_t>& ids = body.ids();
  if (writer(ids.data(), 8, ids.size()) != ids.size()) failed();
  try {
    faiss::write_index(&body.index(), &writer);
  } catch (const std::exception&) {
    failed();
  }
  const uint64_t digest = writer.digest.value();
  if (std::fwrite(&digest, sizeof digest, 1, file.handle) != 1) failed();
  if (std::fflush(file.handle) != 0 || fsync(fileno(file.handle)) != 0) failed();
}

std::shared_ptr<VectorIndex> VectorIndex::load(const std::string& path, bool mapped) {
  // Does not wait for the other end of a pipe.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  File file(descriptor < 0 ? nullptr : fdopen(descriptor, "rb"));
  if (!file.handle) throw Failure("IO", path + ": " + std::strerror(errno));
  struct stat status;
  if (fstat(fileno(file.handle), &status) != 0) throw Failure("IO", path + ": " + std::strerror(errno));
  if (!S_ISREG(status.st_mode)) throw Failure("IO", path + ": not a file");
  const uint64_t bytes = uint64_t(status.st_size);
  Header header;
  read(file.handle, header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) corrupt("not an index file");
  if (header.version != '1' && header.version != '2') corrupt("of an unknown version");
  const bool is_first = header.version == '1';
  Storing storing = {};
  if (is_first) {
    std::strncpy(storing.storage, "f32", sizeof storing.storage - 1);
    storing.bits = 8;
    header.is_trained = 1;
  } else {
    read(file.handle, storing);
    const long start = std::ftell(file.handle);
    check_digest(file.handle, bytes);
    std::fseek(file.handle, start, SEEK_SET);
  }
  header.kind[sizeof header.kind - 1] = 0;
  storing.storage[sizeof storing.storage - 1] = 0;
  const IndexKind* kind = find_kind(header.kind);
  if (!kind) corrupt(std::string("unknown index kind ") + header.kind);
  if (header.dimension < 1 || header.dimension > 65536) corrupt("dimension out of range");
  IndexParameters parameters;
  if (!storage_from(storing.storage, parameters.storage)) corrupt("unknown storage");
  parameters.m = header.m;
  parameters.ef_construction = header.ef_construction;
  parameters.ef_search = header.ef_search;
  parameters.lists = storing.lists;
  parameters.probes = storing.probes;
  parameters.segments = storing.segments;
  parameters.bits = storing.bits;
  if (!is_within(header.m, 2, 1024) || !is_within(storing.lists, 0, 65536) ||
      !is_within(storing.probes, 0, 65536) || !is_within(storing.segments, 0, 65536) ||
      !is_within(storing.bits, 1, 16) || !std::isfinite(storing.error)) {
    corrupt("parameters out of range");
  }
  const bool is_trained = header.is_trained != 0;
  if (mapped && !(is_trained && std::strcmp(kind->name, "ivf") == 0)) {
    throw Failure("SHAPE", "only the lists of a trained ivf index can stay in their file");
  }
  const IndexKind& held = is_trained ? *kind : untrained_kind();
  if (!is_trained) {
    if (kind->least_rows(parameters, 0) == 0) corrupt("there is nothing to train in this kind");
  }

  auto loaded = std::make_shared<VectorIndex>(kind, int(header.dimension), parameters);
  const bool has_rows = std::strcmp(held.name, "ivf") != 0;
  // Checked before anything of that size is allocated.
  if (header.count > bytes / (has_rows ? 8 : 1)) corrupt("shorter than its count");
  std::vector<int64_t> ids(has_rows ? header.count : 0);
  if (!ids.empty() && std::fread(ids.data(), 8, ids.size(), file.handle) != ids.size()) corrupt("cut short");
  try {
    faiss::FileIOReader reader(file.handle);
    std::unique_ptr<faiss::Index> index(faiss::read_index(&reader, mapped ? faiss::IO_FLAG_MMAP : 0));
    if (uint64_t(index->d) != header.dimension || uint64_t(index->ntotal) != header.count) {
      corrupt("the structure does not match the header");
    }
    IndexParameters as_held = parameters;
    if (!is_trained) as_held.storage = Storage::f32;
    loaded->body_ = std::make_unique<Body>(held, as_held, std::move(index), std::move(ids));
  } catch (const Failure&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    corrupt(error.what());
  }
  loaded->body_->raise_error(float(storing.error));
  loaded->body_->is_mapped = mapped;
  loaded->trained_ = is_trained;
  return loaded;
}

}  // namespace reid
