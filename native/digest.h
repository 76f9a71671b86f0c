// A checksum of a file as it is written and read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace reid {

/// Four lanes of words, each multiplied by an odd number and turned: every step can be undone, so a single word
/// that differs gives another value for certain. Against accidents, not against malice.
class Digest {
 public:
  void add(const void* data, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    length_ += size;
    if (filled_ > 0) {
      const size_t some = size < sizeof rest_ - filled_ ? size : sizeof rest_ - filled_;
      std::memcpy(rest_ + filled_, bytes, some);
      filled_ += some;
      bytes += some;
      size -= some;
      if (filled_ < sizeof rest_) return;
      take(rest_);
      filled_ = 0;
    }
    for (; size >= sizeof rest_; bytes += sizeof rest_, size -= sizeof rest_) take(bytes);
    std::memcpy(rest_, bytes, size);
    filled_ = size;
  }

  uint64_t value() const {
    Digest last = *this;
    std::memset(last.rest_ + filled_, 0, sizeof rest_ - filled_);
    last.take(last.rest_);
    uint64_t value = length_;
    for (uint64_t lane : last.lanes_) value = turn((value ^ lane) * kOdd);
    return value;
  }

 private:
  static constexpr uint64_t kOdd = 0x9E3779B97F4A7C15ull;
  static uint64_t turn(uint64_t x) { return x << 31 | x >> 33; }
  void take(const uint8_t* block) {
    for (int i = 0; i < 4; i++) {
      uint64_t word;
      std::memcpy(&word, block + 8 * i, 8);
      lanes_[i] = turn((lanes_[i] ^ word) * kOdd);
    }
  }

  uint64_t lanes_[4] = {1, 2, 3, 4};
  uint8_t rest_[32] = {};
  size_t filled_ = 0;
  uint64_t length_ = 0;
};

}  // namespace reid
