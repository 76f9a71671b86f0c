#include "index_kinds.h"

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexIVFPQ.h>
#include <faiss/IndexScalarQuantizer.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace reid {
namespace {

using idx_t = faiss::Index::idx_t;
constexpr auto kMetric = faiss::METRIC_INNER_PRODUCT;

// Rows that the range of an int8 dimension is taken from, at least.
constexpr size_t kRowsForRange = 256;

// Beyond the range seen in training, on either side: rows that come later may lie a little outside.
constexpr float kRangeMargin = 0.05f;

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

faiss::ScalarQuantizer::QuantizerType quantizer_of(Storage storage) {
  return storage == Storage::f16 ? faiss::ScalarQuantizer::QT_fp16 : faiss::ScalarQuantizer::QT_8bit;
}

size_t bytes_of(Storage storage, size_t d) {
  return d * (storage == Storage::f32 ? sizeof(float) : storage == Storage::f16 ? 2 : 1);
}

size_t rows_for_range(const IndexParameters& parameters, size_t) {
  return parameters.storage == Storage::int8 ? kRowsForRange : 0;
}

/// Codes by position, in the storage that was asked for.
std::unique_ptr<faiss::IndexFlatCodes> create_rows(int d, const IndexParameters& parameters, size_t n,
                                                   const float* rows) {
  if (parameters.storage == Storage::f32) return std::make_unique<faiss::IndexFlat>(d, kMetric);
  auto index = std::make_unique<faiss::IndexScalarQuantizer>(d, quantizer_of(parameters.storage), kMetric);
  index->sq.rangestat_arg = kRangeMargin;
  index->train(idx_t(n), rows);
  return index;
}

Parts parts_of_rows(faiss::Index& index, const IndexParameters& parameters) {
  Parts parts;
  parts.rows = dynamic_cast<faiss::IndexFlatCodes*>(&index);
  const auto* quantized = dynamic_cast<faiss::IndexScalarQuantizer*>(&index);
  const size_t d = size_t(index.d);
  require(parts.rows != nullptr, "the structure is of another kind");
  if (parameters.storage == Storage::f32) {
    require(dynamic_cast<faiss::IndexFlat*>(&index) != nullptr, "the rows are stored otherwise");
  } else {
    require(quantized != nullptr && quantized->sq.qtype == quantizer_of(parameters.storage),
            "the rows are stored otherwise");
    require(parameters.storage != Storage::int8 || quantized->sq.trained.size() == 2 * d, "no range of its rows");
  }
  require(parts.rows->code_size == bytes_of(parameters.storage, d), "the rows are of another length");
  require(parts.rows->codes.size() == size_t(index.ntotal) * parts.rows->code_size, "rows are missing");
  require(index.metric_type == kMetric, "the metric is not the inner product");
  parts.codec = Codec::of(parameters.storage, d, parts.rows->code_size, quantized ? &quantized->sq : nullptr);
  return parts;
}

std::unique_ptr<faiss::Index> create_flat(int d, const IndexParameters& parameters, size_t n, const float* rows) {
  return create_rows(d, parameters, n, rows);
}

int no_effort(const Parts&, const IndexParameters&) { return 0; }

std::unique_ptr<faiss::Index> graph_over(std::unique_ptr<faiss::IndexFlatCodes> storage,
                                         const IndexParameters& parameters) {
  const int d = storage->d;
  std::unique_ptr<faiss::IndexHNSW> index;
  if (parameters.storage == Storage::f32) {
    // The class that FAISS reads such a file as.
    index = std::make_unique<faiss::IndexHNSWFlat>(d, parameters.m, kMetric);
  } else {
    index = std::make_unique<faiss::IndexHNSWSQ>(d, quantizer_of(parameters.storage), parameters.m, kMetric);
    delete index->storage;
    index->storage = storage.release();
    index->is_trained = true;
  }
  index->hnsw.efConstruction = parameters.ef_construction;
  index->hnsw.efSearch = parameters.ef_search;
  return index;
}

std::unique_ptr<faiss::Index> create_hnsw(int d, const IndexParameters& parameters, size_t n, const float* rows) {
  return graph_over(create_rows(d, parameters, n, rows), parameters);
}

void validate(const faiss::HNSW& hnsw, size_t n) {
  require(hnsw.levels.size() == n, "levels do not match the rows");
  require(hnsw.offsets.size() == n + 1 && hnsw.offsets[0] == 0, "offsets do not match the rows");
  require(hnsw.neighbors.size() == hnsw.offsets.back(), "links do not match the offsets");
  require(hnsw.entry_point >= -1 && hnsw.entry_point < idx_t(n), "entry point out of range");
  require(n == 0 || hnsw.entry_point >= 0, "no entry point");
  require(hnsw.cum_nneighbor_per_level.size() > size_t(hnsw.max_level + 1), "too few levels");
  for (size_t i = 0; i < n; i++) {
    const int level = hnsw.levels[i];
    require(level >= 1 && size_t(level) < hnsw.cum_nneighbor_per_level.size(), "level out of range");
    require(hnsw.offsets[i + 1] - hnsw.offsets[i] == size_t(hnsw.cum_nneighbor_per_level[size_t(level)]),
            "offsets do not match the levels");
  }
  require(n == 0 || hnsw.levels[size_t(hnsw.entry_point)] > hnsw.max_level, "entry point below the top level");
  for (auto neighbour : hnsw.neighbors) {
    require(neighbour >= -1 && neighbour < idx_t(n), "link out of range");
  }
}

Parts parts_of_hnsw(faiss::Index& index, const IndexParameters& parameters) {
  auto* outer = dynamic_cast<faiss::IndexHNSW*>(&index);
  require(outer != nullptr && outer->storage != nullptr, "the structure is of another kind");
  require(outer->storage->d == index.d && outer->storage->ntotal == index.ntotal, "rows and graph differ");
  Parts parts = parts_of_rows(*outer->storage, parameters);
  parts.graph = &outer->hnsw;
  validate(outer->hnsw, size_t(index.ntotal));
  return parts;
}

int effort_hnsw(const Parts& parts, const IndexParameters&) { return parts.graph->efSearch; }

size_t lists_of(const IndexParameters& parameters, size_t rows) {
  return parameters.lists > 0 ? size_t(parameters.lists) : std::max<size_t>(1, size_t(4 * std::sqrt(double(rows))));
}

size_t rows_for_lists(const IndexParameters& parameters, size_t rows) {
  const size_t codes = parameters.segments > 0 ? size_t(1) << parameters.bits : 1;
  return std::max({lists_of(parameters, rows), codes, rows_for_range(parameters, rows)});
}

std::unique_ptr<faiss::Index> create_ivf(int d, const IndexParameters& parameters, size_t n, const float* rows) {
  const size_t lists = lists_of(parameters, n);
  auto centroids = std::make_unique<faiss::IndexFlat>(d, kMetric);
  std::unique_ptr<faiss::IndexIVF> index;
  if (parameters.segments > 0) {
    auto product = std::make_unique<faiss::IndexIVFPQ>(centroids.get(), size_t(d), lists, size_t(parameters.segments),
                                                       size_t(parameters.bits), kMetric);
    product->pq.cp.min_points_per_centroid = 1;
    index = std::move(product);
  } else if (parameters.storage == Storage::f32) {
    index = std::make_unique<faiss::IndexIVFFlat>(centroids.get(), size_t(d), lists, kMetric);
  } else {
    // Not relative to its list: our own loops measure these codes.
    auto quantized = std::make_unique<faiss::IndexIVFScalarQuantizer>(centroids.get(), size_t(d), lists,
                                                                      quantizer_of(parameters.storage), kMetric, false);
    quantized->sq.rangestat_arg = kRangeMargin;
    index = std::move(quantized);
  }
  index->quantizer = centroids.release();
  index->own_fields = true;
  index->cp.min_points_per_centroid = 1;  // or it prints a warning on the process's own output
  index->train(idx_t(n), rows);
  return index;
}

Parts parts_of_ivf(faiss::Index& index, const IndexParameters& parameters) {
  Parts parts;
  parts.lists = dynamic_cast<faiss::IndexIVF*>(&index);
  require(parts.lists != nullptr && parts.lists->invlists != nullptr, "the structure is of another kind");
  const faiss::IndexIVF& lists = *parts.lists;
  const size_t d = size_t(index.d);
  const auto* product = dynamic_cast<faiss::IndexIVFPQ*>(&index);
  const auto* quantized = dynamic_cast<faiss::IndexIVFScalarQuantizer*>(&index);
  const bool is_product = parameters.segments > 0;
  require(is_product == (product != nullptr), "the lists are stored otherwise");
  if (is_product) {
    require(product->pq.M == size_t(parameters.segments) && product->pq.nbits == size_t(parameters.bits) &&
                product->pq.d == d && product->pq.centroids.size() == d * product->pq.ksub,
            "the product code is another one");
    require(lists.code_size == product->pq.code_size, "the codes are of another length");
  } else {
    require((quantized != nullptr) == (parameters.storage != Storage::f32), "the lists are stored otherwise");
    require(lists.code_size == bytes_of(parameters.storage, d), "the codes are of another length");
    require(!quantized || (quantized->sq.qtype == quantizer_of(parameters.storage) && !quantized->by_residual),
            "the lists are stored otherwise");
    require(parameters.storage != Storage::int8 || quantized->sq.trained.size() == 2 * d, "no range of its rows");
  }
  const auto* centroids = dynamic_cast<faiss::IndexFlat*>(lists.quantizer);
  require(centroids != nullptr && centroids->d == index.d && size_t(centroids->ntotal) == lists.nlist &&
              centroids->codes.size() == lists.nlist * d * sizeof(float),
          "centroids do not match the lists");
  require(lists.invlists->nlist == lists.nlist && lists.invlists->code_size == lists.code_size,
          "the lists do not match");
  require(index.metric_type == kMetric, "the metric is not the inner product");
  parts.codec = Codec::of(is_product ? Storage::product : parameters.storage, d, lists.code_size,
                          quantized ? &quantized->sq : nullptr);
  parts.codec.lists = parts.lists;
  return parts;
}

int effort_ivf(const Parts& parts, const IndexParameters& parameters) {
  const int lists = int(parts.lists->nlist);
  return std::min(lists, parameters.probes > 0 ? parameters.probes : std::max(8, lists / 16));
}

const IndexKind kinds[] = {
    {"flat", true, true, rows_for_range, create_flat, parts_of_rows, no_effort},
    // FAISS 1.7.3 cannot unlink a node.
    {"hnsw", false, false, rows_for_range, create_hnsw, parts_of_hnsw, effort_hnsw},
    {"ivf", false, true, rows_for_lists, create_ivf, parts_of_ivf, effort_ivf},
};

}  // namespace

const IndexKind* find_kind(const std::string& name) {
  for (const IndexKind& kind : kinds) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

std::unique_ptr<faiss::Index> empty_graph_like(const Parts& parts, const IndexParameters& parameters) {
  const int d = int(parts.codec.d);
  if (parameters.storage == Storage::f32) return create_hnsw(d, parameters, 0, nullptr);
  const auto& there = static_cast<const faiss::IndexScalarQuantizer&>(*parts.rows);
  auto rows = std::make_unique<faiss::IndexScalarQuantizer>(d, quantizer_of(parameters.storage), kMetric);
  rows->sq = there.sq;
  rows->is_trained = true;
  return graph_over(std::move(rows), parameters);
}

const IndexKind& untrained_kind() { return kinds[0]; }

}  // namespace reid
