// Comparing queries with every row of some runs: exact search, and the search of inverted lists.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "body.h"
#include "id_set.h"
#include "pool.h"

namespace reid {

enum class FilterMode { none, only, except };

struct Query {
  std::vector<float> features;  // [n, d]
  size_t n = 0;
  size_t k = 0;
  bool exact = false;
  int effort = 0;  // 0: the index's own
  FilterMode filter = FilterMode::none;
  IdSet ids;                                // of the filter
  std::shared_ptr<std::atomic<bool>> stop;  // may be empty
  const Pool* pool = nullptr;               // ends with it; may be empty

  bool stopped() const {
    return (stop && stop->load(std::memory_order_relaxed)) || (pool && pool->stopping());
  }
  bool allows(int64_t id) const {
    return id >= 0 && (filter == FilterMode::none || ids.contains(id) == (filter == FilterMode::only));
  }
};

struct Answer {
  std::vector<double> ids;          // [n, k], -1 where short
  std::vector<float> similarities;  // [n, k], falling, ties by rising id
  bool exact = false;               // every id that passes was compared
  float error = 0;                  // how far a similarity may be from that of the row itself, for a unit query
};

/// One hit while searching: better is larger similarity, then smaller id.
struct Candidate {
  float similarity;
  int64_t id;
  bool operator<(const Candidate& other) const {
    return similarity > other.similarity || (similarity == other.similarity && id < other.id);
  }
};

/// Writes the best of the candidates as query q's row of the answer.
void write_row(std::vector<Candidate>& candidates, const Query& query, size_t q, Answer& answer);

/// Queries [first, end) against all runs, on up to `parts` threads of the pool. On a thread of the pool, under the
/// shared gate. Leaves the answer's rows; unfinished where the query was stopped.
void scan(const Query& query, size_t first, size_t end, const std::vector<Run>& runs, const Codec& codec,
          size_t parts, Pool& pool, Answer& answer);

}  // namespace reid
