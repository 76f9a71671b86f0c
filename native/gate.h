// Many readers or one writer; a waiting writer goes before readers that come later.
#pragma once

#include <condition_variable>
#include <mutex>

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

}  // namespace reid
