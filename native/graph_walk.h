// A walk of ours over FAISS's HNSW graph.
//
// The graph, its building and its file are FAISS's; only the search is not. FAISS 1.7.3 asks a virtual function
// for one distance at a time and waits for each row to come from memory; here the rows of all neighbours are
// asked for before the first is measured. Under a filter FAISS walks until its beam is full of any nodes; here
// until it is full of allowed ones, so a filter costs time and not recall.
#pragma once

#include <faiss/impl/HNSW.h>

#include <cstddef>
#include <vector>

#include "scan.h"

namespace reid {

/// The k nearest nodes of one query by inner product, as far as a beam of `effort` (at least k) finds them.
///
/// Any thread, beside one that links nodes: it meets nodes that are linked, by links that are whole. Borrows
/// everything. nodes holds the codes of all nodes, each with its id; those the query does not allow are walked over
/// and left out. Gives at most k candidates in no order.
void walk_graph(const faiss::HNSW& graph, const Run& nodes, const Codec& codec, const Query& query, size_t q,
                size_t effort, std::vector<Candidate>& found);

}  // namespace reid
