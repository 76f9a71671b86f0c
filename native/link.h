// Linking nodes into FAISS's HNSW graph, on the pool and beside searches.
#pragma once

#include <faiss/impl/HNSW.h>
#include <omp.h>

#include <vector>

#include "pool.h"
#include "storage.h"

namespace reid {

/// Links the nodes [first, first + n), whose levels and codes are in place. Their neighbours change beside searches:
/// a link is one word, and a walk that meets a list while it is rewritten sees a link twice or misses one.
///
/// Between two nodes each thread runs a read that waits, and stops where the pool does.
///
/// @param codes  of all nodes, by position
/// @param rows   float32 [n, d], of the new nodes
void link_nodes(faiss::HNSW& graph, std::vector<omp_lock_t>& locks, const Codec& codec, const uint8_t* codes,
                size_t first, const float* rows, size_t n, Pool& pool);

}  // namespace reid
