// Features under numeric ids, on one FAISS index. Knows nothing of JavaScript.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "body.h"
#include "gate.h"
#include "index_kinds.h"
#include "pool.h"
#include "scan.h"

namespace reid {

/// A failure the caller is told by code; anything else becomes INDEX_FAILED.
struct Failure : std::runtime_error {
  Failure(const char* code, const std::string& message) : std::runtime_error(message), code(code) {}
  const char* code;
};

/// The id a JavaScript number stands for; throws Failure SHAPE if it stands for none.
int64_t id_from(double id);

struct Facts {
  double count;
  double tombstones;
  double bytes;
  double lists;
  double error;
  bool trained;
};

/// A compaction between its two halves; empty where there is nothing to do.
struct Compaction {
  std::unique_ptr<Body> fresh;
  IdTable taken;  // positions that rows were taken from
};

/// Reads run on any thread of the pool, beside one another and beside one write. Writes (add, update, remove, train,
/// the second half of a compaction, save) run in turn: the caller posts them so (`Pool::post_in_turn`).
class VectorIndex {
 public:
  VectorIndex(const IndexKind* kind, int dimension, const IndexParameters& parameters);
  /// Blocks while it reads; throws Failure SNAPSHOT_CORRUPT. mapped: inverted lists stay in the file.
  static std::shared_ptr<VectorIndex> load(const std::string& path, bool mapped);

  int dimension() const { return dimension_; }
  const IndexKind& kind() const { return *kind_; }
  const IndexParameters& parameters() const { return parameters_; }

  // Reads.
  Answer search(const Query& query, Pool& pool) const;
  std::vector<double> ids() const;
  /// What the index holds of them, which is not the feature itself where the storage is lossy; NaN if not there.
  std::vector<float> features(const std::vector<double>& ids) const;
  Facts facts() const;

  // Writes.
  /// All or none.
  void add(const std::vector<double>& ids, const std::vector<float>& features, Pool& pool);
  /// Puts rows in the place of those with the same ids, and adds the others.
  void update(const std::vector<double>& ids, const std::vector<float>& features, Pool& pool);
  size_t remove(const std::vector<double>& ids);
  /// On float32 [n, d], or on what it holds where that is empty. Nothing to do where it is trained.
  void train(const std::vector<float>& features, Pool& pool);
  void save(const std::string& path) const;

  /// Builds the index anew beside itself without what was removed; reads and writes go on meanwhile.
  std::shared_ptr<Compaction> start_compaction(Pool& pool);
  /// In turn: takes over what was written since, and puts the new index in place.
  void finish_compaction(Compaction& compaction, Pool& pool);

 private:
  std::vector<int64_t> ids_to_write(const std::vector<double>& ids, const std::vector<float>& features) const;
  bool approximate(const Query& query, Pool& pool, Answer& answer) const;
  std::vector<Run> runs_for(const Query& query) const;
  void put_in_place(std::unique_ptr<Body> fresh, Pool& pool);

  const IndexKind* kind_;
  int dimension_;
  IndexParameters parameters_;
  mutable Gate gate_;
  // Put in place by writes, under the whole gate: a write needs no gate to read it.
  std::unique_ptr<Body> body_;
  std::atomic<bool> trained_{false};
  std::atomic<bool> compacting_{false};
};

}  // namespace reid
