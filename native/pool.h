// The addon's own threads. libuv's four are left to files, LMDB and sharp: a long build would starve them.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace reid {

class Pool {
 public:
  explicit Pool(size_t threads);
  /// Drops what is queued, waits for what is running.
  ~Pool();

  size_t threads() const { return threads_.size(); }
  /// Any thread. The task runs on a thread of the pool, first come first served.
  void post(std::function<void()> task);
  /// Any thread of the pool. Runs body(i) for i in [0, parts) on the caller and on idle threads of the
  /// pool; returns when all parts are done. Never waits for a thread that has not begun.
  void share(size_t parts, const std::function<void(size_t)>& body);
  bool stopping() const;

 private:
  void run();

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  bool stopping_ = false;
};

}  // namespace reid
