// A set of ids that a search is limited to, or passes over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace reid {

/// A bitmap where the ids lie close together, else sorted: in both cases a test needs no hash.
///
/// Immutable once made: any thread may ask it.
class IdSet {
 public:
  IdSet() = default;
  /// From ids in any order, some perhaps twice; none negative.
  static IdSet of(std::vector<int64_t> ids);
  /// Bit i of words (bit i % 64 of word i / 64) stands for id first + i.
  static IdSet of_bits(std::vector<uint64_t> words, int64_t first);

  bool contains(int64_t id) const;
  /// How many ids it holds.
  size_t size() const { return size_; }
  /// The ids, rising, where the set is kept sorted; else empty.
  const std::vector<int64_t>& sorted() const { return sorted_; }

 private:
  std::vector<uint64_t> words_;
  int64_t first_ = 0;
  std::vector<int64_t> sorted_;
  size_t size_ = 0;
};

inline bool IdSet::contains(int64_t id) const {
  const uint64_t bit = uint64_t(id) - uint64_t(first_);  // an id below the first becomes a huge one
  if (bit / 64 < words_.size()) return (words_[bit / 64] >> (bit % 64)) & 1;
  if (sorted_.empty()) return false;
  size_t low = 0;
  for (size_t length = sorted_.size(); length > 1;) {
    const size_t half = length / 2;
    low += sorted_[low + half] <= id ? half : 0;
    length -= half;
  }
  return sorted_[low] == id;
}

}  // namespace reid
