// The addon's own threads. libuv's four are left to files, LMDB and sharp: a long build would starve them.
#pragma once

#include <semaphore.h>

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

namespace reid {

/// How long a change may take: `quick` ones share their threads with the reads, and who asked for them waits;
/// `slow` ones, as linking into a graph, have as many threads of their own, which the system runs after all others.
enum class Pace { quick, slow };

/// Counts what waits to be taken. To wake a thread is one system call that waits for nobody: with a condition
/// variable, the main thread waited until a thread woken before had found a processor.
class Signal {
 public:
  Signal() { sem_init(&count_, 0, 0); }
  ~Signal() { sem_destroy(&count_); }
  Signal(const Signal&) = delete;
  void raise() { sem_post(&count_); }
  void wait() {
    while (sem_wait(&count_) != 0) {  // interrupted by a signal to the process
    }
  }
  /// Takes one back, if there is one.
  void lower() { sem_trywait(&count_); }

 private:
  sem_t count_;
};

/// Reads go before quick changes, but every fourth task is a change where some wait. One that has many steps calls
/// relieve() between them, so that a read waits for one step and not for all.
class Pool {
 public:
  using Task = std::function<void()>;

  /// pinned: thread i runs on processor i only. Throws std::system_error where so many threads cannot be had.
  Pool(size_t threads, bool pinned);
  /// Drops what is queued, waits for what is running.
  ~Pool();
  /// The pool whose thread this is, or nullptr.
  static const Pool* current();

  /// That read. As many again make slow changes.
  size_t threads() const { return threads_.size() / 2; }
  /// Any thread. A task that changes nothing: beside every other task.
  void post_read(Task task);
  /// Any thread. A slow task, beside every other task.
  void post_slow(Task task);
  /// Any thread. A task that changes `owner`: one after another, in the order they came. No thread waits for
  /// its turn.
  void post_in_turn(const void* owner, Pace pace, Task task);
  /// Any thread of the pool. Runs body(i) for i in [0, parts) on the caller and on idle threads of the
  /// pool; returns when all parts are done. Never waits for a thread that has not begun.
  void share_read(size_t parts, const std::function<void(size_t)>& body) { share(parts, body, reads_); }
  void share_slow(size_t parts, const std::function<void(size_t)>& body) { share(parts, body, slow_); }
  /// Any thread of the pool. Runs body, which is short, on a thread for reads, before what waits there, and waits for it.
  /// What readers wait for is done so: a slow thread may have to wait long for a processor while it holds their lock.
  void quickly(const std::function<void()>& body);
  /// A thread of the pool that holds no lock: runs a read that waits, if there is one and its threads are for that.
  void relieve();
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

 private:
  void stop();
  void run();
  void run_slow();
  void post(std::deque<Task>& queue, Task task);
  /// Once for each task. Not under mutex_: who is woken takes the processor from a thread that stands back, and would
  /// wait for its lock.
  void wake(const std::deque<Task>& queue) { (&queue == &slow_ ? slow_signal_ : signal_).raise(); }
  void share(size_t parts, const std::function<void(size_t)>& body, std::deque<Task>& queue);
  Task taken_from(std::deque<Task>& queue);
  struct Turn {
    Pace pace;
    Task task;
  };
  std::deque<Task>& take_turn(const void* owner, Turn turn);

  mutable std::mutex mutex_;
  /// At least as high as there are tasks queued for their threads.
  Signal signal_, slow_signal_;
  std::deque<Task> reads_;
  std::deque<Task> changes_;
  std::deque<Task> slow_;
  std::unordered_map<const void*, std::deque<Turn>> turns_;  // an owner is here while a task of it is under way
  std::atomic<size_t> reads_waiting_{0};
  size_t reads_in_a_row_ = 0;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
};

}  // namespace reid
