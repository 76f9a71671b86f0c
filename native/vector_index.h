// Features under numeric ids, on one FAISS index. Knows nothing of JavaScript.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "gate.h"
#include "id_set.h"
#include "index_kinds.h"
#include "pool.h"

namespace reid {

/// A failure the caller is told by code; anything else becomes INDEX_FAILED.
struct Failure : std::runtime_error {
  Failure(const char* code, const std::string& message) : std::runtime_error(message), code(code) {}
  const char* code;
};

/// The id a JavaScript number stands for; throws Failure SHAPE if it stands for none.
int64_t id_from(double id);

enum class FilterMode { none, only, except };

struct Query {
  std::vector<float> features;  // [n, d]
  size_t n = 0;
  size_t k = 0;
  bool exact = false;
  int effort = 0;  // 0: the index's own
  FilterMode filter = FilterMode::none;
  IdSet ids;  // of the filter
  std::shared_ptr<std::atomic<bool>> stop;  // may be empty
};

struct Answer {
  std::vector<double> ids;         // [n, k], -1 where short
  std::vector<float> similarities;  // [n, k], falling, ties by rising id
  bool exact = false;
};

struct Facts {
  double count;
  double tombstones;
  double bytes;
};

/// Every method may be called on any thread; searches run beside one another, writes alone.
class VectorIndex {
 public:
  VectorIndex(const IndexKind* kind, int dimension, const IndexParameters& parameters);
  /// Blocks while it reads; throws Failure SNAPSHOT_CORRUPT.
  static std::shared_ptr<VectorIndex> load(const std::string& path);

  int dimension() const { return dimension_; }
  const IndexKind& kind() const { return *kind_; }
  const IndexParameters& parameters() const { return parameters_; }

  /// All or none. threads: how many may link nodes of a graph.
  void add(const std::vector<double>& ids, const std::vector<float>& features, int threads);
  size_t remove(const std::vector<double>& ids);
  Answer search(const Query& query, Pool& pool) const;
  std::vector<double> ids() const;
  std::vector<float> features(const std::vector<double>& ids) const;
  /// Builds the index anew beside itself without what was removed; searches and adds go on meanwhile.
  void compact(int threads, const Pool& pool);
  void save(const std::string& path) const;
  Facts facts() const;

 private:
  struct Body {
    std::unique_ptr<faiss::Index> index;
    faiss::IndexFlat* rows = nullptr;  // borrowed from index
    std::vector<int64_t> ids;          // by position; -1: removed
    std::unordered_map<int64_t, int64_t> positions;
    size_t tombstones = 0;
  };

  Body empty_body() const;
  const float* row(const Body& body, int64_t position) const;
  void append(Body& body, const std::vector<int64_t>& ids, const float* features, int threads) const;
  void drop(Body& body, int64_t id) const;
  void scan(const Query& query, const std::vector<int64_t>* positions, Pool& pool, Answer& answer) const;
  void scan_batch(const Query& query, const std::vector<int64_t>* positions, Pool& pool, Answer& answer) const;
  bool walk(const Query& query, const std::vector<uint8_t>* allowed, size_t survivors, Pool& pool,
            Answer& answer) const;

  const IndexKind* kind_;
  int dimension_;
  IndexParameters parameters_;
  mutable Gate gate_;
  Body body_;                     // under gate_
  std::atomic<bool> compacting_{false};
};

}  // namespace reid
