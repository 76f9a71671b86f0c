// The table of index kinds. A new kind is a new row in index_kinds.cc and in src/index/index-kinds.ts.
#pragma once

#include <faiss/Index.h>
#include <faiss/IndexFlatCodes.h>
#include <faiss/IndexIVF.h>
#include <faiss/impl/HNSW.h>

#include <memory>
#include <string>

#include "storage.h"

namespace reid {

/// Every number a kind may need, by its name in api.md section 6; a kind reads its own.
struct IndexParameters {
  Storage storage = Storage::f32;
  int m = 32;
  int ef_construction = 200;
  int ef_search = 128;
  int lists = 0;     // 0: 4 · √rows at training
  int probes = 0;    // 0: the larger of 8 and lists / 16
  int segments = 0;  // of a product code; 0: none
  int bits = 8;      // of a segment
};

/// The parts of a FAISS index that ours works on; borrowed from it, nullptr where it has none.
struct Parts {
  faiss::IndexFlatCodes* rows = nullptr;  // codes by position
  faiss::HNSW* graph = nullptr;           // over rows
  faiss::IndexIVF* lists = nullptr;       // codes in inverted lists
  Codec codec;
};

struct IndexKind {
  const char* name;
  /// A search through the structure compares with every entry.
  bool exact;
  /// An entry leaves at once; else it stays as a tombstone until the index is compacted.
  bool removes;
  /// Rows that training takes at least; 0: there is nothing to train.
  size_t (*least_rows)(const IndexParameters&, size_t rows);
  /// An empty index, trained on float32 [n, d] where there is something to train.
  std::unique_ptr<faiss::Index> (*create)(int d, const IndexParameters&, size_t n, const float* rows);
  /// Its parts; throws std::runtime_error if it is of another kind, or could lead out of its own arrays.
  Parts (*parts)(faiss::Index&, const IndexParameters&);
  /// efSearch or probes, where the caller gives none.
  int (*default_effort)(const Parts&, const IndexParameters&);
};

/// The kind of that name, or nullptr.
const IndexKind* find_kind(const std::string& name);

/// An empty graph index with the links and the trained storage of one that there is.
std::unique_ptr<faiss::Index> empty_graph_like(const Parts& parts, const IndexParameters& parameters);

/// What an index that is not trained yet is: float32 rows, searched exactly.
const IndexKind& untrained_kind();

}  // namespace reid
