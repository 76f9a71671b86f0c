#include "link.h"

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/utils/random.h>

#include <algorithm>
#include <optional>

#include "kernels.h"

namespace reid {
namespace {

using node_t = faiss::HNSW::storage_idx_t;

// So many nodes of a new graph are linked one after another: side by side they would not see each other.
constexpr size_t kLinkedAlone = 128;

/// Negative similarities, as FAISS's own for inner products: its graph wants the near small.
struct Distance : faiss::DistanceComputer {
  Distance(const Codec& codec, const uint8_t* codes) : codec(codec), codes(codes), row(codec.d) {}

  void set_query(const float* query) override { measure.emplace(codec, query); }
  float operator()(idx_t i) override { return -(*measure)(code(i)); }

  float symmetric_dis(idx_t i, idx_t j) override {
    if (codec.storage == Storage::f32) return -inner_product(floats(i), floats(j), codec.d);
    // FAISS asks for one node against many, now as the first, now as the second: that one is widened once.
    if (i != widened && j != widened) {
      widened = i == last ? i : j;
      last = i;
      codec.decode(code(widened), -1, row.data());
      pair.emplace(codec, row.data());
    }
    return -(*pair)(code(i == widened ? j : i));
  }

  const uint8_t* code(idx_t i) const { return codes + size_t(i) * codec.bytes; }
  const float* floats(idx_t i) const { return reinterpret_cast<const float*>(code(i)); }

  const Codec& codec;
  const uint8_t* codes;
  std::optional<Measure> measure;  // of the query
  std::optional<Measure> pair;     // of the widened node
  std::vector<float> row;
  idx_t widened = -1, last = -1;
};

/// The highest levels first, as FAISS links them; within a level in no order, so that the data's own means nothing.
std::vector<node_t> order_of(const faiss::HNSW& graph, size_t first, size_t n) {
  std::vector<node_t> order(n);
  for (size_t i = 0; i < n; i++) order[i] = node_t(first + i);
  faiss::RandomGenerator random(789);
  for (size_t i = 0; i + 1 < n; i++) std::swap(order[i], order[i + size_t(random.rand_int(int(n - i)))]);
  std::stable_sort(order.begin(), order.end(), [&](node_t a, node_t b) {
    return graph.levels[size_t(a)] > graph.levels[size_t(b)];
  });
  return order;
}

}  // namespace

void link_nodes(faiss::HNSW& graph, std::vector<omp_lock_t>& locks, const Codec& codec, const uint8_t* codes,
                size_t first, const float* rows, size_t n, Pool& pool) {
  const std::vector<node_t> order = order_of(graph, first, n);
  const auto link = [&](node_t node, Distance& distance, faiss::VisitedTable& visited) {
    distance.set_query(rows + (size_t(node) - first) * codec.d);
    graph.add_with_locks(distance, graph.levels[size_t(node)] - 1, node, locks, visited);
  };
  size_t alone = 0;
  {
    Distance distance(codec, codes);
    faiss::VisitedTable visited(int(first + n));
    // A node above the top level becomes the new top, which FAISS does under no lock.
    while (alone < n && (first + alone < kLinkedAlone || graph.entry_point < 0 ||
                         graph.levels[size_t(order[alone])] - 1 > graph.max_level)) {
      link(order[alone++], distance, visited);
    }
  }
  std::atomic<size_t> next{alone};
  pool.share_slow(std::min(pool.threads(), n - alone), [&](size_t) {
    Distance distance(codec, codes);
    faiss::VisitedTable visited(int(first + n));
    for (size_t i; (i = next.fetch_add(1)) < n && !pool.stopping();) {
      link(order[i], distance, visited);
    }
  });
}

}  // namespace reid
