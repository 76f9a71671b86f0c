#include "graph_walk.h"

#include <algorithm>
#include <vector>

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
inline void ask_for(const uint8_t* code, size_t bytes) {
  const size_t lines = std::min<size_t>(8, (bytes + 63) / 64);
  for (size_t line = 0; line < lines; line++) __builtin_prefetch(code + 64 * line);
}

/// A link, which another thread may be writing.
inline node_t link_at(const faiss::HNSW& graph, size_t i) {
  return __atomic_load_n(graph.neighbors.data() + i, __ATOMIC_RELAXED);
}

/// Down the upper levels, always to the nearest neighbour.
Seen descend(const faiss::HNSW& graph, const Run& nodes, const Codec& codec, const Measure& measure, node_t entry) {
  Seen nearest{measure(nodes.codes + size_t(entry) * codec.bytes), entry};
  // The entry point and the top level are written one after the other: the node's own level holds.
  for (int level = graph.levels[size_t(entry)] - 1; level > 0; level--) {
    for (bool moved = true; moved;) {
      moved = false;
      size_t begin, end;
      graph.neighbor_range(nearest.node, level, &begin, &end);
      for (size_t i = begin; i < end; i++) {
        const node_t node = link_at(graph, i);
        if (node < 0) break;
        // Stored after this search began: nobody has a mark for it.
        if (size_t(node) >= nodes.n) continue;
        const float similarity = measure(nodes.codes + size_t(node) * codec.bytes);
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

void walk_graph(const faiss::HNSW& graph, const Run& nodes, const Codec& codec, const Query& query, size_t q,
                size_t effort, std::vector<Candidate>& found) {
  const node_t entry = __atomic_load_n(&graph.entry_point, __ATOMIC_ACQUIRE);
  if (entry < 0 || size_t(entry) >= nodes.n) return;
  thread_local Visited visited;
  thread_local std::vector<Seen> open;  // to be expanded, the nearest on top
  thread_local std::vector<Seen> beam;  // the nearest allowed so far, the farthest on top
  thread_local std::vector<node_t> fresh;
  visited.begin(nodes.n);
  open.clear();
  beam.clear();
  const Measure measure(codec, query.features.data() + q * codec.d);
  const size_t width = std::max(effort, query.k);
  auto offer = [&](const Seen& seen) {
    if (!query.allows(id_at(nodes.ids, size_t(seen.node)))) return;
    if (beam.size() == width) {
      if (seen.similarity <= beam.front().similarity) return;
      std::pop_heap(beam.begin(), beam.end(), is_nearer);
      beam.back() = seen;
    } else {
      beam.push_back(seen);
    }
    std::push_heap(beam.begin(), beam.end(), is_nearer);
  };

  const Seen start = descend(graph, nodes, codec, measure, entry);
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
    for (size_t i = begin; i < end; i++) {
      const node_t node = link_at(graph, i);
      if (node < 0) break;
      // Stored after this search began.
      if (size_t(node) >= nodes.n || !visited.meet(node)) continue;
      ask_for(nodes.codes + size_t(node) * codec.bytes, codec.bytes);
      fresh.push_back(node);
    }
    for (node_t node : fresh) {
      const Seen seen{measure(nodes.codes + size_t(node) * codec.bytes), node};
      if (beam.size() == width && seen.similarity <= beam.front().similarity) continue;
      open.push_back(seen);
      std::push_heap(open.begin(), open.end(), is_farther);
      offer(seen);
    }
  }
  std::sort(beam.begin(), beam.end(), is_nearer);
  for (size_t i = 0; i < beam.size() && found.size() < query.k; i++) {
    // Removed since it was offered: another id, or none.
    const int64_t id = id_at(nodes.ids, size_t(beam[i].node));
    if (id >= 0) found.push_back({beam[i].similarity, id});
  }
}

}  // namespace reid
