// From an id to its place in an index.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace reid {

/// A hash table that one writer changes while others read it: a slot's place is written before its id.
///
/// It never moves by itself. Where it is too full the writer makes a larger one beside it (`grown`) and puts that
/// in its place while no reader looks.
class IdTable {
 public:
  IdTable() : IdTable(0) {}
  explicit IdTable(size_t room);

  /// The place of an id, or -1. Any thread.
  int64_t find(int64_t id) const;
  /// How many ids it holds. Any thread.
  size_t size() const { return size_.load(std::memory_order_relaxed); }

  /// Whether so many more ids fit. The writer, as all below.
  bool has_room(size_t more) const { return used_ + more <= limit_; }
  IdTable grown(size_t more) const;
  void insert(int64_t id, int64_t place);
  void move(int64_t id, int64_t place);
  void erase(int64_t id);
  size_t bytes() const { return slots_ * sizeof(Slot); }

  IdTable(IdTable&&) noexcept;
  IdTable& operator=(IdTable&&) noexcept;

 private:
  static constexpr int64_t kFree = -1;
  static constexpr int64_t kErased = -2;  // stays until the table is made anew: a probe goes on behind it
  struct Slot {
    std::atomic<int64_t> id{kFree};
    std::atomic<int64_t> place{0};
  };
  size_t start_of(int64_t id) const;
  Slot* slot_of(int64_t id) const;

  size_t slots_ = 0;
  size_t limit_ = 0;
  size_t used_ = 0;  // with the erased ones
  std::atomic<size_t> size_{0};
  std::unique_ptr<Slot[]> table_;
};

}  // namespace reid
