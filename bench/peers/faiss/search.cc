// FAISS itself, without Node: the peer of bench/index. One question a run; the answer is one JSON line.
//
//   search flat  ROWS QUERIES D        exact search of one query and of 64
//   search graph FILE SKIPPED QUERIES D EF     the index behind the first SKIPPED bytes of a file of ours
//   search build ROWS D M EFC          HNSW over all rows: rows a second, and resident bytes above the rows
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int kNearest = 10;
constexpr size_t kBatch = 64;

std::vector<float> read_rows(const char* path) {
  FILE* file = std::fopen(path, "rb");
  if (!file) throw std::runtime_error(std::string("cannot read ") + path);
  std::fseek(file, 0, SEEK_END);
  std::vector<float> rows(size_t(std::ftell(file)) / sizeof(float));
  std::rewind(file);
  if (std::fread(rows.data(), sizeof(float), rows.size(), file) != rows.size()) throw std::runtime_error("short read");
  std::fclose(file);
  return rows;
}

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double resident_bytes() {
  FILE* file = std::fopen("/proc/self/statm", "r");
  long pages = 0, resident = 0;
  const int read = file ? std::fscanf(file, "%ld %ld", &pages, &resident) : 0;
  if (file) std::fclose(file);
  if (read != 2) throw std::runtime_error("no /proc/self/statm");
  return double(resident) * 4096;
}

/// Times one query after another, then all of them in batches of 64.
void time_searches(const faiss::Index& index, const std::vector<float>& queries, size_t d,
                   const faiss::SearchParameters* parameters) {
  const size_t n = queries.size() / d;
  std::vector<float> similarities(kBatch * kNearest);
  std::vector<faiss::Index::idx_t> found(n * kNearest);
  std::vector<double> one, batch;
  index.search(faiss::Index::idx_t(std::min(n, kBatch)), queries.data(), kNearest, similarities.data(), found.data(), parameters);
  for (size_t q = 0; q < n; q++) {
    const double started = now_ms();
    index.search(1, queries.data() + q * d, kNearest, similarities.data(), found.data() + q * kNearest, parameters);
    one.push_back(now_ms() - started);
  }
  for (size_t q = 0; q + kBatch <= n; q += kBatch) {
    const double started = now_ms();
    index.search(kBatch, queries.data() + q * d, kNearest, similarities.data(), found.data() + q * kNearest, parameters);
    batch.push_back(now_ms() - started);
  }
  std::printf("{\"oneMs\":%.4f,\"batchMs\":%.4f,\"hits\":[", median(one), median(batch));
  for (size_t i = 0; i < found.size(); i++) std::printf(i ? ",%lld" : "%lld", static_cast<long long>(found[i]));
  std::printf("]}\n");
}

struct FileReader : faiss::IOReader {
  explicit FileReader(FILE* file) : file(file) {}
  size_t operator()(void* data, size_t size, size_t count) override { return std::fread(data, size, count, file); }
  FILE* file;
};

int search_flat(const char* rows_path, const char* queries_path, size_t d) {
  const std::vector<float> rows = read_rows(rows_path);
  faiss::IndexFlatIP index{faiss::Index::idx_t(d)};
  index.add(faiss::Index::idx_t(rows.size() / d), rows.data());
  time_searches(index, read_rows(queries_path), d, nullptr);
  return 0;
}

int search_graph(const char* path, long skipped, const char* queries_path, size_t d, int ef) {
  FILE* file = std::fopen(path, "rb");
  if (!file || std::fseek(file, skipped, SEEK_SET) != 0) throw std::runtime_error(std::string("cannot read ") + path);
  FileReader reader(file);
  const faiss::Index* index = faiss::read_index(&reader);
  std::fclose(file);
  faiss::SearchParametersHNSW parameters;
  parameters.efSearch = ef;
  time_searches(*index, read_rows(queries_path), d, &parameters);
  return 0;
}

int build(const char* rows_path, size_t d, int m, int ef_construction) {
  const std::vector<float> rows = read_rows(rows_path);
  const double before = resident_bytes();
  faiss::IndexHNSWFlat index(int(d), m, faiss::METRIC_INNER_PRODUCT);
  index.hnsw.efConstruction = ef_construction;
  const double started = now_ms();
  index.add(faiss::Index::idx_t(rows.size() / d), rows.data());
  const double took = now_ms() - started;
  const double own = double(rows.size()) * sizeof(float);
  std::printf("{\"rowsPerS\":%.1f,\"aboveFeaturesBytes\":%.0f}\n", double(rows.size() / d) / took * 1000,
              resident_bytes() - before - own);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const std::string question = count > 1 ? arguments[1] : "";
    if (question == "flat" && count == 5) return search_flat(arguments[2], arguments[3], size_t(std::atol(arguments[4])));
    if (question == "graph" && count == 7) {
      return search_graph(arguments[2], std::atol(arguments[3]), arguments[4], size_t(std::atol(arguments[5])), std::atoi(arguments[6]));
    }
    if (question == "build" && count == 6) {
      return build(arguments[2], size_t(std::atol(arguments[3])), std::atoi(arguments[4]), std::atoi(arguments[5]));
    }
    std::fprintf(stderr, "search flat ROWS QUERIES D | graph FILE SKIPPED QUERIES D EF | build ROWS D M EFC\n");
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
