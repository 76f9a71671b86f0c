#include "pool.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <unordered_set>

namespace reid {
namespace {

constexpr size_t kReadsBeforeAChange = 3;
/// A tenth of a processor where everything else is busy: the writes that wait for a full tail go on.
constexpr int kSlowNice = 10;

thread_local const Pool* pool_of_thread = nullptr;
thread_local bool is_slow_thread = false;

/// Pools that are up. `process.exit` takes nothing down that Node knows of: it runs the exit handlers of C and the
/// destructors of libraries under the pools' threads, and a product in the middle of OpenBLAS would lose its memory.
struct Pools {
  std::mutex mutex;
  std::unordered_set<Pool*> up;
};

Pools& pools() {
  static auto* all = new Pools;  // never destroyed: it is asked while everything else is
  return *all;
}

void pin(size_t processor) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor % CPU_SETSIZE, &one);
  // Refused where the process may not run there: then the thread stays free.
  pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

}  // namespace

const Pool* Pool::current() { return pool_of_thread; }

Pool::Pool(size_t threads, bool pinned) {
  static std::once_flag once;
  // Registered after every library was loaded, so that it runs before what they registered.
  std::call_once(once, [] {
    std::atexit([] {
      std::lock_guard<std::mutex> hold(pools().mutex);
      for (Pool* pool : pools().up) pool->stop();
    });
  });
  threads_.reserve(2 * threads);
  try {
    for (size_t i = 0; i < threads; i++) {
      threads_.emplace_back([this, i, pinned] {
        if (pinned) pin(i);
        run();
      });
    }
    for (size_t i = 0; i < threads; i++) {
      threads_.emplace_back([this, i, pinned] {
        if (pinned) pin(i);
        // Of this thread alone, on Linux, and behind the others also where the process stands back itself.
        const id_t thread = id_t(syscall(SYS_gettid));
        setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + kSlowNice);
        run_slow();
      });
    }
  } catch (...) {
    stop();
    throw;
  }
  std::lock_guard<std::mutex> hold(pools().mutex);
  pools().up.insert(this);
}

Pool::~Pool() {
  {
    std::lock_guard<std::mutex> hold(pools().mutex);
    pools().up.erase(this);
  }
  stop();
}

void Pool::stop() {
  std::deque<Task> reads, changes, slow;
  std::unordered_map<const void*, std::deque<Turn>> turns;
  {
    std::lock_guard<std::mutex> hold(mutex_);
    stopping_ = true;
    reads.swap(reads_);
    changes.swap(changes_);
    slow.swap(slow_);
    turns.swap(turns_);
    reads_waiting_ = 0;
  }
  // Before the threads are joined: one may be waiting for what it asked another to do.
  for (std::deque<Task>* dropped : {&reads, &changes, &slow}) dropped->clear();
  turns.clear();
  for (size_t i = 0; i < threads_.size(); i++) {
    signal_.raise();
    slow_signal_.raise();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Pool::post(std::deque<Task>& queue, Task task) {
  {
    std::lock_guard<std::mutex> hold(mutex_);
    if (stopping_) return;
    queue.push_back(std::move(task));
    reads_waiting_ = reads_.size();
  }
  wake(queue);
}

void Pool::post_read(Task task) { post(reads_, std::move(task)); }

void Pool::post_slow(Task task) { post(slow_, std::move(task)); }

void Pool::post_in_turn(const void* owner, Pace pace, Task task) {
  std::deque<Task>* queue;
  {
    std::lock_guard<std::mutex> hold(mutex_);
    if (stopping_) return;
    const auto [found, isFirst] = turns_.try_emplace(owner);
    if (!isFirst) {
      found->second.push_back({pace, std::move(task)});
      return;
    }
    queue = &take_turn(owner, {pace, std::move(task)});
  }
  wake(*queue);
}

/// Under mutex_. Queues the task, and behind it the owner's next one. The task, and with it the owner, lives until
/// that is queued.
std::deque<Pool::Task>& Pool::take_turn(const void* owner, Turn turn) {
  std::deque<Task>& queue = turn.pace == Pace::slow ? slow_ : changes_;
  queue.push_back([this, owner, task = std::move(turn.task)] {
    task();
    std::deque<Task>* next;
    {
      std::lock_guard<std::mutex> hold(mutex_);
      const auto found = turns_.find(owner);
      if (found == turns_.end()) return;  // the pool is stopping
      if (found->second.empty()) {
        turns_.erase(found);
        return;
      }
      Turn turn = std::move(found->second.front());
      found->second.pop_front();
      next = &take_turn(owner, std::move(turn));
    }
    wake(*next);
  });
  return queue;
}

/// Under mutex_.
Pool::Task Pool::taken_from(std::deque<Task>& queue) {
  Task task = std::move(queue.front());
  queue.pop_front();
  reads_waiting_ = reads_.size();
  return task;
}

void Pool::run() {
  // OpenMP counts its threads per calling thread: FAISS starts none of its own.
  omp_set_num_threads(1);
  pool_of_thread = this;
  for (;;) {
    Task task;
    signal_.wait();
    {
      std::lock_guard<std::mutex> hold(mutex_);
      if (stopping_) return;
      if (reads_.empty() && changes_.empty()) continue;  // a thread that relieved was faster
      const bool reads = !reads_.empty() && (changes_.empty() || reads_in_a_row_ < kReadsBeforeAChange);
      reads_in_a_row_ = reads ? reads_in_a_row_ + 1 : 0;
      task = taken_from(reads ? reads_ : changes_);
    }
    task();
  }
}

void Pool::run_slow() {
  omp_set_num_threads(1);
  pool_of_thread = this;
  is_slow_thread = true;
  for (;;) {
    Task task;
    slow_signal_.wait();
    {
      std::lock_guard<std::mutex> hold(mutex_);
      if (stopping_) return;
      task = taken_from(slow_);
    }
    task();
  }
}

void Pool::relieve() {
  if (is_slow_thread || reads_waiting_.load(std::memory_order_relaxed) == 0) return;
  Task task;
  {
    std::lock_guard<std::mutex> hold(mutex_);
    if (reads_.empty()) return;
    task = taken_from(reads_);
  }
  signal_.lower();
  task();
}

namespace {

struct Errand {
  Signal done;
  bool was_run = false;
  std::exception_ptr failure;
};

/// Lives as long as the task that carries it: a task that a stop drops answers, too.
struct Ticket {
  explicit Ticket(Errand& errand) : errand(errand) {}
  ~Ticket() { errand.done.raise(); }
  Errand& errand;
};

}  // namespace

void Pool::quickly(const std::function<void()>& body) {
  if (!is_slow_thread) return body();
  Errand errand;
  Task task = [&body, ticket = std::make_shared<Ticket>(errand)] {
    Errand& errand = ticket->errand;
    errand.was_run = true;
    try {
      body();
    } catch (...) {
      errand.failure = std::current_exception();
    }
  };
  {
    std::lock_guard<std::mutex> hold(mutex_);
    if (!stopping_) {
      reads_.push_front(std::move(task));
      reads_waiting_ = reads_.size();
    }
  }
  task = nullptr;
  wake(reads_);
  errand.done.wait();
  if (!errand.was_run) return body();
  if (errand.failure) std::rethrow_exception(errand.failure);
}

namespace {

struct Shared {
  std::atomic<size_t> next{0};
  size_t parts = 0;
  const std::function<void(size_t)>* body = nullptr;
  std::mutex mutex;
  std::condition_variable done;
  size_t finished = 0;
  std::exception_ptr failure;

  /// Takes parts until none is left. `body` is touched only while a part is held, and the caller of
  /// share() waits for every part: a helper that starts late finds none and touches nothing.
  void help() {
    for (size_t part; (part = next.fetch_add(1)) < parts;) {
      std::exception_ptr error;
      try {
        (*body)(part);
      } catch (...) {
        error = std::current_exception();
      }
      std::lock_guard<std::mutex> hold(mutex);
      if (error && !failure) failure = error;
      if (++finished == parts) done.notify_all();
    }
  }
};

}  // namespace

void Pool::share(size_t parts, const std::function<void(size_t)>& body, std::deque<Task>& queue) {
  if (parts <= 1) {
    if (parts == 1) body(0);
    return;
  }
  auto shared = std::make_shared<Shared>();
  shared->parts = parts;
  shared->body = &body;
  {
    std::lock_guard<std::mutex> hold(mutex_);
    const size_t helpers = std::min(parts, threads()) - 1;
    // In front: what is under way goes before what has not begun.
    for (size_t i = 0; i < helpers && !stopping_; i++) queue.push_front([shared] { shared->help(); });
    reads_waiting_ = reads_.size();
  }
  for (size_t i = 0; i < std::min(parts, threads()) - 1; i++) wake(queue);
  shared->help();
  std::unique_lock<std::mutex> hold(shared->mutex);
  shared->done.wait(hold, [&] { return shared->finished == shared->parts; });
  if (shared->failure) std::rethrow_exception(shared->failure);
}

}  // namespace reid
