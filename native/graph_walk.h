// A walk of ours over FAISS's HNSW graph.
//
// The graph, its building and its file are FAISS's; only the search is not. FAISS 1.7.3 asks a virtual function
// for one distance at a time and waits for each row to come from memory; here the rows of all neighbours are
// asked for before the first is measured. Under a filter FAISS walks until its beam is full of any nodes; here
// until it is full of allowed ones, so a filter costs time and not recall.
#pragma once

#include <faiss/impl/HNSW.h>
#include <faiss/impl/IDSelector.h>

#include <cstddef>
#include <cstdint>

namespace reid {

/// The k nearest nodes of one query by inner product, as far as a beam of `effort` (at least k) finds them.
///
/// Any thread; borrows everything. rows are float32 [n, d] by position; allowed may be nullptr.
/// Fills similarities and positions [k], falling; position -1 where it came back short.
void walk_graph(const faiss::HNSW& graph, const float* rows, size_t n, size_t d, const float* query, size_t k,
                size_t effort, const faiss::IDSelector* allowed, float* similarities, int64_t* positions);

}  // namespace reid
