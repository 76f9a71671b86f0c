// Many readers or one writer; a waiting writer goes before readers that come later.
#pragma once

#include <condition_variable>
#include <mutex>

#include "pool.h"

namespace reid {

/// std::shared_mutex lets a stream of searches keep an add out for ever; this one does not.
class Gate {
 public:
  void lock_shared() {
    std::unique_lock<std::mutex> hold(mutex_);
    free_.wait(hold, [this] { return !writing_ && waiting_writers_ == 0; });
    readers_++;
  }
  void unlock_shared() {
    std::lock_guard<std::mutex> hold(mutex_);
    if (--readers_ == 0) free_.notify_all();
  }
  void lock() {
    std::unique_lock<std::mutex> hold(mutex_);
    waiting_writers_++;
    free_.wait(hold, [this] { return !writing_ && readers_ == 0; });
    waiting_writers_--;
    writing_ = true;
  }
  void unlock() {
    std::lock_guard<std::mutex> hold(mutex_);
    writing_ = false;
    free_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable free_;
  int readers_ = 0;
  int waiting_writers_ = 0;
  bool writing_ = false;
};

/// The whole gate for single steps of a writer.
class Alone {
 public:
  /// gate may be nullptr where nobody reads yet.
  Alone(Gate* gate, Pool& pool) : gate_(gate), pool_(pool) {}
  /// Readers wait for the step: it is done by a thread that the system does not keep waiting.
  template <class Step>
  void operator()(const Step& step) const {
    if (!gate_) return step();
    pool_.quickly([&] {
      const std::lock_guard<Gate> hold(*gate_);
      step();
    });
  }

 private:
  Gate* gate_;
  Pool& pool_;
};

}  // namespace reid
