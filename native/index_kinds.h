// The table of index kinds. A new kind is a new row in index_kinds.cc and in src/index/index-kinds.ts.
#pragma once

#include <faiss/Index.h>
#include <faiss/IndexFlat.h>
#include <faiss/impl/IDSelector.h>

#include <memory>
#include <string>

namespace reid {

/// Every number a kind may need, by its name in api.md section 6; a kind reads its own.
struct IndexParameters {
  int m = 32;
  int ef_construction = 200;
  int ef_search = 128;
};

struct IndexKind {
  const char* name;
  /// A search through the structure compares with every entry.
  bool exact;
  /// An entry leaves at once; else it stays as a tombstone until the index is compacted.
  bool removes;
  std::unique_ptr<faiss::Index> (*create)(int dimension, const IndexParameters&);
  /// The float32 rows by position, borrowed from the index; nullptr if it is of another kind.
  faiss::IndexFlat* (*rows)(faiss::Index&);
  /// Throws std::runtime_error if the structure read from a file could lead out of its own arrays.
  void (*validate)(const faiss::Index&);
  /// Nearest positions of n queries; allowed may be nullptr. Not called for exact kinds.
  void (*search)(const faiss::Index&, const float* queries, size_t n, size_t k, int effort,
                 const faiss::IDSelector* allowed, float* similarities, faiss::Index::idx_t* positions);
  /// Bytes beside the rows.
  size_t (*structure_bytes)(const faiss::Index&);
  /// efSearch or the like, where the caller gives none.
  int (*default_effort)(const faiss::Index&);
};

/// The kind of that name, or nullptr.
const IndexKind* find_kind(const std::string& name);

}  // namespace reid
