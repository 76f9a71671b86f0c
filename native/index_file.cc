// VectorIndex to a file and back. Layout: docs/formats.md, "Index file".
#include <faiss/index_io.h>
#include <faiss/impl/io.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <shared_mutex>

#include "vector_index.h"

namespace reid {
namespace {

const char kMagic[8] = {'R', 'E', 'I', 'D', 'I', 'D', 'X', '1'};

struct Header {
  char magic[8];
  char kind[16];
  uint64_t dimension;
  uint64_t count;
  int32_t m;
  int32_t ef_construction;
  int32_t ef_search;
  int32_t reserved;
};
static_assert(sizeof(Header) == 56, "the layout is in docs/formats.md");

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
    return std::fwrite(data, size, count, file);
  }
  FILE* file;
};

struct FileReader : faiss::IOReader {
  explicit FileReader(FILE* file) : file(file) {}
  size_t operator()(void* data, size_t size, size_t count) override {
    return std::fread(data, size, count, file);
  }
  FILE* file;
};

[[noreturn]] void corrupt(const std::string& cause) { throw Failure("SNAPSHOT_CORRUPT", cause); }

}  // namespace

void VectorIndex::save(const std::string& path) const {
  File file(std::fopen(path.c_str(), "wbx"));
  const auto failed = [&] { throw Failure("IO", path + ": " + std::strerror(errno)); };
  if (!file.handle) failed();
  {
    std::shared_lock<Gate> hold(gate_);
    Header header = {};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    std::strncpy(header.kind, kind_->name, sizeof header.kind - 1);
    header.dimension = uint64_t(dimension_);
    header.count = body_.ids.size();
    header.m = parameters_.m;
    header.ef_construction = parameters_.ef_construction;
    header.ef_search = parameters_.ef_search;
    if (std::fwrite(&header, sizeof header, 1, file.handle) != 1) failed();
    if (std::fwrite(body_.ids.data(), 8, body_.ids.size(), file.handle) != body_.ids.size()) failed();
    FileWriter writer(file.handle);
    try {
      faiss::write_index(body_.index.get(), &writer);
    } catch (const std::exception&) {
      failed();
    }
  }
  if (std::fflush(file.handle) != 0 || fsync(fileno(file.handle)) != 0) failed();
}

std::shared_ptr<VectorIndex> VectorIndex::load(const std::string& path) {
  File file(std::fopen(path.c_str(), "rb"));
  if (!file.handle) throw Failure("IO", path + ": " + std::strerror(errno));
  struct stat status;
  if (fstat(fileno(file.handle), &status) != 0) throw Failure("IO", path + ": " + std::strerror(errno));
  const uint64_t bytes = uint64_t(status.st_size);
  Header header;
  if (std::fread(&header, sizeof header, 1, file.handle) != 1) corrupt("shorter than its header");
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) corrupt("not an index file");
  header.kind[sizeof header.kind - 1] = 0;
  const IndexKind* kind = find_kind(header.kind);
  if (!kind) corrupt(std::string("unknown index kind ") + header.kind);
  if (header.dimension < 1 || header.dimension > 65536) corrupt("dimension out of range");
  // Checked before anything of that size is allocated.
  if (header.count > bytes / (8 + header.dimension * 4)) corrupt("shorter than its count");
  IndexParameters parameters;
  parameters.m = header.m;
  parameters.ef_construction = header.ef_construction;
  parameters.ef_search = header.ef_search;
  if (parameters.m < 2 || parameters.m > 1024) corrupt("parameters out of range");

  auto loaded = std::make_shared<VectorIndex>(kind, int(header.dimension), parameters);
  Body body;
  body.ids.resize(header.count);
  if (std::fread(body.ids.data(), 8, header.count, file.handle) != header.count) corrupt("cut short");
  try {
    FileReader reader(file.handle);
    body.index.reset(faiss::read_index(&reader));
    body.rows = kind->rows(*body.index);
    if (!body.rows) corrupt("the structure is of another kind");
    if (uint64_t(body.index->d) != header.dimension || uint64_t(body.rows->d) != header.dimension ||
        uint64_t(body.index->ntotal) != header.count || uint64_t(body.rows->ntotal) != header.count ||
        body.rows->codes.size() != header.count * header.dimension * 4 ||
        body.index->metric_type != faiss::METRIC_INNER_PRODUCT) {
      corrupt("the structure does not match the header");
    }
    kind->validate(*body.index);
  } catch (const Failure&) {
    throw;
  } catch (const std::exception& error) {
    corrupt(error.what());
  }
  body.positions.reserve(header.count);
  for (size_t i = 0; i < body.ids.size(); i++) {
    if (body.ids[i] == -1 && !kind->removes) {
      body.tombstones++;
    } else if (body.ids[i] < 0 || !body.positions.emplace(body.ids[i], int64_t(i)).second) {
      corrupt("an id is negative or there twice");
    }
  }
  loaded->body_ = std::move(body);
  return loaded;
}

}  // namespace reid
