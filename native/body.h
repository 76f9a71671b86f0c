// What an index holds: FAISS's structure, and which id is where in it.
#pragma once

#include <omp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "gate.h"
#include "id_table.h"
#include "index_kinds.h"
#include "pool.h"

namespace reid {

/// Codes that lie together, each with its id (−1: removed).
struct Run {
  const uint8_t* codes;
  const int64_t* ids;
  size_t n;
  int64_t list;  // the inverted list they are of, or −1
};

/// An id of a run, which another thread may be writing. In a file that is mapped the ids of a list lie behind its codes,
/// wherever those end.
inline int64_t id_at(const int64_t* ids, size_t i) {
  typedef int64_t anywhere __attribute__((aligned(1)));
  return __atomic_load_n(reinterpret_cast<const anywhere*>(ids) + i, __ATOMIC_RELAXED);
}

/// One writer and many readers, who hold the gate shared.
///
/// Rows that are added go behind those that readers look at, and links of a graph are single words that are whole
/// at any moment: neither keeps readers out. What moves memory under them (a larger array put in place, a row of
/// a flat index that takes the place of a removed one, inverted lists) is done under the whole gate, in steps.
class Body {
 public:
  /// Takes over an index of that kind; ids by position where it has rows, else from its lists.
  /// Throws std::runtime_error if it is of another kind, or broken.
  Body(const IndexKind& kind, const IndexParameters& parameters, std::unique_ptr<faiss::Index> index,
       std::vector<int64_t> ids);

  const IndexKind& kind() const { return kind_; }
  const Parts& parts() const { return parts_; }
  faiss::Index& index() const { return *index_; }
  size_t live() const { return table_.size(); }
  size_t tombstones() const { return tombstones_.load(std::memory_order_relaxed); }
  const IdTable& table() const { return table_; }
  /// Ids by position, of indexes with rows.
  const std::vector<int64_t>& ids() const { return ids_; }
  /// Positions that readers may look at.
  size_t count() const { return count_.load(std::memory_order_acquire); }
  /// The largest |x − x̂| of a row x and what its code stands for.
  float error() const { return error_.load(std::memory_order_relaxed); }
  void raise_error(float error);
  /// Inverted lists that lie in a file: they cannot change.
  bool is_mapped = false;

  /// Everything, in the order it is held; borrowed as long as the gate is.
  std::vector<Run> runs() const;
  Run run_of(int64_t list) const;
  /// The code at a place that the table names.
  Run at(int64_t place) const;
  void decode(const Run& run, size_t i, float* row) const;
  size_t bytes() const;

  // The writer, as all below. gate may be nullptr where nobody reads yet.
  /// Stores and links rows; none of the ids is there. In between, reads that wait run on this thread.
  void append(const int64_t* ids, const float* rows, size_t n, Pool& pool, Gate* gate);
  /// On a thread that is not slow. How many of the ids were there.
  size_t remove(const std::vector<int64_t>& ids, Gate* gate);
  /// Rows in place of those there are, under the same ids; a reader sees one or the other.
  void replace(const int64_t* ids, const float* rows, size_t n, Pool& pool, Gate* gate);

 private:
  void make_room(size_t more, const Alone& alone);
  size_t store(const int64_t* ids, const float* rows, size_t n, bool hidden, const Alone& alone);
  void link(size_t first, const float* rows, size_t n, Pool& pool);
  void store_in_lists(const int64_t* ids, const float* rows, size_t n, bool replaces, const Alone& alone);
  void drop(int64_t place);
  void drop_from_list(int64_t place);
  void measure_error(const uint8_t* code, int64_t list, const float* row);

  const IndexKind& kind_;
  std::unique_ptr<faiss::Index> index_;
  Parts parts_;
  std::vector<int64_t> ids_;
  std::atomic<size_t> count_{0};
  std::atomic<size_t> tombstones_{0};
  std::atomic<float> error_{0};
  IdTable table_;
  std::vector<omp_lock_t> locks_;  // of the graph's nodes, while they are linked
};

/// A place in inverted lists, as the table holds it.
inline int64_t place_in(int64_t list, size_t offset) { return list << 32 | int64_t(offset); }

}  // namespace reid
