#include "id_table.h"

#include <algorithm>

namespace reid {

IdTable::IdTable(size_t room)
    : slots_(std::max<size_t>(16, room + room / 3 + 1)),
      limit_(slots_ - slots_ / 4),
      table_(new Slot[slots_]) {}

IdTable::IdTable(IdTable&& other) noexcept
    : slots_(other.slots_),
      limit_(other.limit_),
      used_(other.used_),
      size_(other.size()),
      table_(std::move(other.table_)) {}

IdTable& IdTable::operator=(IdTable&& other) noexcept {
  slots_ = other.slots_;
  limit_ = other.limit_;
  used_ = other.used_;
  size_.store(other.size());
  table_ = std::move(other.table_);
  return *this;
}

size_t IdTable::start_of(int64_t id) const {
  // Ids are counted up: Fibonacci hashing spreads them, and the product's upper half takes any number of slots.
  const uint64_t hash = uint64_t(id) * 0x9E3779B97F4A7C15ull;
  return size_t((hash >> 32) * slots_ >> 32);
}

IdTable::Slot* IdTable::slot_of(int64_t id) const {
  for (size_t i = start_of(id);; i = i + 1 == slots_ ? 0 : i + 1) {
    const int64_t there = table_[i].id.load(std::memory_order_acquire);
    if (there == id) return &table_[i];
    if (there == kFree) return nullptr;
  }
}

int64_t IdTable::find(int64_t id) const {
  const Slot* slot = slot_of(id);
  return slot ? slot->place.load(std::memory_order_acquire) : -1;
}

IdTable IdTable::grown(size_t more) const {
  // By half: a table of a million ids is 24 MB, and a step has to last a while.
  IdTable larger(std::max(size() + more, size() + size() / 2));
  for (size_t i = 0; i < slots_; i++) {
    const int64_t id = table_[i].id.load(std::memory_order_relaxed);
    if (id >= 0) larger.insert(id, table_[i].place.load(std::memory_order_relaxed));
  }
  return larger;
}

void IdTable::insert(int64_t id, int64_t place) {
  size_t i = start_of(id);
  while (table_[i].id.load(std::memory_order_relaxed) != kFree) i = i + 1 == slots_ ? 0 : i + 1;
  table_[i].place.store(place, std::memory_order_relaxed);
  table_[i].id.store(id, std::memory_order_release);
  used_++;
  size_.store(size() + 1, std::memory_order_relaxed);
}

void IdTable::move(int64_t id, int64_t place) { slot_of(id)->place.store(place, std::memory_order_release); }

void IdTable::erase(int64_t id) {
  slot_of(id)->id.store(kErased, std::memory_order_release);
  size_.store(size() - 1, std::memory_order_relaxed);
}

}  // namespace reid
