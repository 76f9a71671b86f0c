#include "id_set.h"

#include <algorithm>

namespace reid {
namespace {

// A sorted list costs 64 bits an id: up to here a bitmap over their span is as small, and faster.
constexpr uint64_t kBitsAnId = 64;

}  // namespace

IdSet IdSet::of(std::vector<int64_t> ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  IdSet set;
  set.size_ = ids.size();
  if (ids.empty()) return set;
  const uint64_t span = uint64_t(ids.back() - ids.front()) + 1;
  if (span / kBitsAnId > ids.size()) {
    set.sorted_ = std::move(ids);
    return set;
  }
  set.first_ = ids.front();
  set.words_.resize((span + 63) / 64);
  for (int64_t id : ids) {
    const uint64_t bit = uint64_t(id - set.first_);
    set.words_[bit / 64] |= uint64_t(1) << (bit % 64);
  }
  return set;
}

IdSet IdSet::of_bits(std::vector<uint64_t> words, int64_t first) {
  IdSet set;
  set.words_ = std::move(words);
  set.first_ = first;
  for (uint64_t word : set.words_) set.size_ += size_t(__builtin_popcountll(word));
  return set;
}

}  // namespace reid
