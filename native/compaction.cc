// VectorIndex without its tombstones: a graph is built anew beside the old one.
#include <mutex>
#include <shared_mutex>

#include "vector_index.h"

namespace reid {
namespace {

constexpr size_t kTakenAtOnce = 1024;

// So few entries that came meanwhile are left to the second half, which keeps other writes waiting.
constexpr size_t kLeftForEnd = 256;

struct Batch {
  std::vector<int64_t> ids;
  std::vector<float> rows;
};

/// Entries whose row the new body has not, from `start` on, at most so many. Under the gate, or in turn.
Batch missing_from(const Body& body, IdTable& taken, size_t& start, size_t most) {
  Batch batch;
  const Run run = body.runs()[0];
  const size_t d = body.parts().codec.d;
  if (!taken.has_room(most)) taken = taken.grown(most);
  for (; start < run.n && batch.ids.size() < most; start++) {
    const int64_t id = id_at(run.ids, start);
    if (id < 0) continue;
    const int64_t before = taken.find(id);
    if (before == int64_t(start)) continue;
    // Replaced since: a row never moves, so the new one is at another position.
    if (before < 0) {
      taken.insert(id, int64_t(start));
    } else {
      taken.move(id, int64_t(start));
    }
    batch.ids.push_back(id);
    batch.rows.resize(batch.ids.size() * d);
    body.decode(run, start, batch.rows.data() + (batch.ids.size() - 1) * d);
  }
  return batch;
}

}  // namespace

std::shared_ptr<Compaction> VectorIndex::start_compaction(Pool& pool) {
  if (compacting_.exchange(true)) throw Failure("FAILED_PRECONDITION", "the index is being compacted already");
  auto compaction = std::make_shared<Compaction>();
  try {
    {
      std::shared_lock<Gate> hold(gate_);
      if (body_->tombstones() == 0) {
        compacting_ = false;
        return compaction;
      }
      compaction->fresh = std::make_unique<Body>(
          *kind_, parameters_, empty_graph_like(body_->parts(), parameters_), std::vector<int64_t>());
      compaction->taken = IdTable(body_->live());
    }
    for (size_t start = 0; !pool.stopping();) {
      Batch batch;
      pool.quickly([&] {
        std::shared_lock<Gate> hold(gate_);
        batch = missing_from(*body_, compaction->taken, start, kTakenAtOnce);
      });
      if (batch.ids.size() < kTakenAtOnce) start = 0;  // and what came meanwhile
      compaction->fresh->replace(batch.ids.data(), batch.rows.data(), batch.ids.size(), pool, nullptr);
      if (batch.ids.size() < kLeftForEnd) break;
    }
  } catch (...) {
    compacting_ = false;
    throw;
  }
  return compaction;
}

void VectorIndex::finish_compaction(Compaction& compaction, Pool& pool) {
  if (!compaction.fresh) return;
  struct Release {
    std::atomic<bool>& flag;
    ~Release() { flag = false; }
  } release{compacting_};
  if (pool.stopping()) return;
  Body& fresh = *compaction.fresh;
  for (size_t start = 0;;) {
    const Batch batch = missing_from(*body_, compaction.taken, start, kTakenAtOnce);
    if (batch.ids.empty()) break;
    fresh.replace(batch.ids.data(), batch.rows.data(), batch.ids.size(), pool, nullptr);
  }
  std::vector<int64_t> left;
  for (int64_t id : fresh.ids()) {
    if (id >= 0 && body_->table().find(id) < 0) left.push_back(id);
  }
  fresh.remove(left, nullptr);
  // Rows were taken from their codes, which say nothing of what was lost in them.
  fresh.raise_error(body_->error());
  put_in_place(std::move(compaction.fresh), pool);
}

}  // namespace reid
