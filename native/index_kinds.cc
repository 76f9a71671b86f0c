#include "index_kinds.h"

#include <faiss/IndexHNSW.h>

#include <algorithm>
#include <stdexcept>

#include "graph_walk.h"

namespace reid {
namespace {

using idx_t = faiss::Index::idx_t;

std::unique_ptr<faiss::Index> create_flat(int dimension, const IndexParameters&) {
  return std::make_unique<faiss::IndexFlat>(dimension, faiss::METRIC_INNER_PRODUCT);
}

faiss::IndexFlat* rows_flat(faiss::Index& index) { return dynamic_cast<faiss::IndexFlat*>(&index); }

void validate_flat(const faiss::Index&) {}

size_t no_bytes(const faiss::Index&) { return 0; }

int no_effort(const faiss::Index&) { return 0; }

std::unique_ptr<faiss::Index> create_hnsw(int dimension, const IndexParameters& parameters) {
  auto index =
      std::make_unique<faiss::IndexHNSWFlat>(dimension, parameters.m, faiss::METRIC_INNER_PRODUCT);
  index->hnsw.efConstruction = parameters.ef_construction;
  index->hnsw.efSearch = parameters.ef_search;
  return index;
}

faiss::IndexFlat* rows_hnsw(faiss::Index& index) {
  auto* hnsw = dynamic_cast<faiss::IndexHNSWFlat*>(&index);
  return hnsw ? dynamic_cast<faiss::IndexFlat*>(hnsw->storage) : nullptr;
}

void validate_hnsw(const faiss::Index& index) {
  const auto& outer = static_cast<const faiss::IndexHNSWFlat&>(index);
  const faiss::HNSW& hnsw = outer.hnsw;
  const size_t n = size_t(outer.ntotal);
  auto require = [](bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string("HNSW graph: ") + what);
  };
  require(hnsw.levels.size() == n, "levels do not match the rows");
  require(hnsw.offsets.size() == n + 1 && hnsw.offsets[0] == 0, "offsets do not match the rows");
  require(hnsw.neighbors.size() == hnsw.offsets.back(), "links do not match the offsets");
  require(hnsw.entry_point >= -1 && hnsw.entry_point < idx_t(n), "entry point out of range");
  require(n == 0 || hnsw.entry_point >= 0, "no entry point");
  require(hnsw.cum_nneighbor_per_level.size() > size_t(hnsw.max_level + 1), "too few levels");
  for (size_t i = 0; i < n; i++) {
    const int level = hnsw.levels[i];
    require(level >= 1 && size_t(level) < hnsw.cum_nneighbor_per_level.size(), "level out of range");
    require(hnsw.offsets[i + 1] - hnsw.offsets[i] == size_t(hnsw.cum_nneighbor_per_level[level]),
            "offsets do not match the levels");
  }
  require(n == 0 || hnsw.levels[hnsw.entry_point] > hnsw.max_level, "entry point below the top level");
  for (auto neighbour : hnsw.neighbors) {
    require(neighbour >= -1 && neighbour < idx_t(n), "link out of range");
  }
}

void search_hnsw(const faiss::Index& index, const float* queries, size_t n, size_t k, int effort,
                 const faiss::IDSelector* allowed, float* similarities, idx_t* positions) {
  const auto& graph = static_cast<const faiss::IndexHNSWFlat&>(index);
  const auto& rows = static_cast<const faiss::IndexFlat&>(*graph.storage);
  const size_t d = size_t(index.d);
  for (size_t q = 0; q < n; q++) {
    walk_graph(graph.hnsw, reinterpret_cast<const float*>(rows.codes.data()), size_t(index.ntotal), d, queries + q * d,
               k, size_t(effort), allowed, similarities + q * k, positions + q * k);
  }
}

size_t bytes_hnsw(const faiss::Index& index) {
  const faiss::HNSW& hnsw = static_cast<const faiss::IndexHNSWFlat&>(index).hnsw;
  return hnsw.neighbors.size() * sizeof(hnsw.neighbors[0]) + hnsw.offsets.size() * sizeof(size_t) +
         hnsw.levels.size() * sizeof(int);
}

int effort_hnsw(const faiss::Index& index) {
  return static_cast<const faiss::IndexHNSWFlat&>(index).hnsw.efSearch;
}

const IndexKind kinds[] = {
    {"flat", true, true, create_flat, rows_flat, validate_flat, nullptr, no_bytes, no_effort},
    // FAISS 1.7.3 cannot unlink a node.
    {"hnsw", false, false, create_hnsw, rows_hnsw, validate_hnsw, search_hnsw, bytes_hnsw, effort_hnsw},
};

}  // namespace

const IndexKind* find_kind(const std::string& name) {
  for (const IndexKind& kind : kinds) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

}  // namespace reid
