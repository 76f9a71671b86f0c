#include "graph_walk.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels.h"

namespace reid {
namespace {

using node_t = faiss::HNSW::storage_idx_t;

struct Seen {
  float similarity;
  node_t node;
};

bool is_nearer(const Seen& a, const Seen& b) { return a.similarity > b.similarity; }
bool is_farther(const Seen& a, const Seen& b) { return a.similarity < b.similarity; }

/// Which nodes a walk has met: a number for each walk, so that nothing is cleared between two.
class Visited {
 public:
  void begin(size_t n) {
    if (marks_.size() < n) marks_.resize(n, 0);
    if (++walk_ == 0) {
      std::fill(marks_.begin(), marks_.end(), 0);
      walk_ = 1;
    }
  }
  /// True the first time.
  bool meet(node_t node) {
    if (marks_[size_t(node)] == walk_) return false;
    marks_[size_t(node)] = walk_;
    return true;
  }

 private:
  std::vector<uint16_t> marks_;
  uint16_t walk_ = 0;
};

/// Asks for the head of a row; the processor's own prefetching follows from there.
inline void ask_for(const float* row, size_t d) {
  const size_t lines = std::min<size_t>(8, (d * sizeof(float) + 63) / 64);
  for (size_t line = 0; line < lines; line++) __builtin_prefetch(reinterpret_cast<const char*>(row) + 64 * line);
}

/// Down the upper levels, always to the nearest neighbour.
Seen descend(const faiss::HNSW& graph, const float* rows, size_t d, const float* query) {
  Seen nearest{0, graph.entry_point};
  nearest.similarity = inner_product(query, rows + size_t(nearest.node) * d, d);
  for (int level = graph.max_level; level > 0; level--) {
    for (bool moved = true; moved;) {
      moved = false;
      size_t begin, end;
      graph.neighbor_range(nearest.node, level, &begin, &end);
      for (size_t i = begin; i < end && graph.neighbors[i] >= 0; i++) {
        const node_t node = graph.neighbors[i];
        const float similarity = inner_product(query, rows + size_t(node) * d, d);
        if (similarity > nearest.similarity) {
          nearest = {similarity, node};
          moved = true;
        }
      }
    }
  }
  return nearest;
}

}  // namespace

void walk_graph(const faiss::HNSW& graph, const float* rows, size_t n, size_t d, const float* query, size_t k,
                size_t effort, const faiss::IDSelector* allowed, float* similarities, int64_t* positions) {
  std::fill(similarities, similarities + k, -std::numeric_limits<float>::infinity());
  std::fill(positions, positions + k, int64_t(-1));
  if (graph.entry_point < 0) return;
  thread_local Visited visited;
  thread_local std::vector<Seen> open;  // to be expanded, the nearest on top
  thread_local std::vector<Seen> beam;  // the nearest allowed so far, the farthest on top
  thread_local std::vector<node_t> fresh;
  visited.begin(n);
  open.clear();
  beam.clear();
  const size_t width = std::max(effort, k);
  auto offer = [&](const Seen& seen) {
    if (allowed && !allowed->is_member(seen.node)) return;
    if (beam.size() == width) {
      if (seen.similarity <= beam.front().similarity) return;
      std::pop_heap(beam.begin(), beam.end(), is_nearer);
      beam.back() = seen;
    } else {
      beam.push_back(seen);
    }
    std::push_heap(beam.begin(), beam.end(), is_nearer);
  };

  const Seen start = descend(graph, rows, d, query);
  visited.meet(start.node);
  open.push_back(start);
  offer(start);
  while (!open.empty()) {
    std::pop_heap(open.begin(), open.end(), is_farther);
    const Seen next = open.back();
    open.pop_back();
    if (beam.size() == width && next.similarity < beam.front().similarity) break;
    size_t begin, end;
    graph.neighbor_range(next.node, 0, &begin, &end);
    fresh.clear();
    for (size_t i = begin; i < end && graph.neighbors[i] >= 0; i++) {
      const node_t node = graph.neighbors[i];
      if (!visited.meet(node)) continue;
      ask_for(rows + size_t(node) * d, d);
      fresh.push_back(node);
    }
    for (node_t node : fresh) {
      const Seen seen{inner_product(query, rows + size_t(node) * d, d), node};
      if (beam.size() == width && seen.similarity <= beam.front().similarity) continue;
      open.push_back(seen);
      std::push_heap(open.begin(), open.end(), is_farther);
      offer(seen);
    }
  }
  std::sort(beam.begin(), beam.end(), is_nearer);
  for (size_t i = 0; i < std::min(k, beam.size()); i++) {
    similarities[i] = beam[i].similarity;
    positions[i] = beam[i].node;
  }
}

}  // namespace reid
