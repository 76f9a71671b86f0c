#include "pool.h"

#include <omp.h>

#include <atomic>
#include <exception>
#include <memory>

namespace reid {

Pool::Pool(size_t threads) {
  for (size_t i = 0; i < threads; i++) threads_.emplace_back([this] { run(); });
}

Pool::~Pool() {
  {
    std::lock_guard<std::mutex> hold(mutex_);
    stopping_ = true;
    tasks_.clear();
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool Pool::stopping() const {
  std::lock_guard<std::mutex> hold(mutex_);
  return stopping_;
}

void Pool::post(std::function<void()> task) {
  {
    std::lock_guard<std::mutex> hold(mutex_);
    if (stopping_) return;
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void Pool::run() {
  // OpenMP counts its threads per calling thread: FAISS starts none of its own but where an add asks for them.
  omp_set_num_threads(1);
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock<std::mutex> hold(mutex_);
      wake_.wait(hold, [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
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

void Pool::share(size_t parts, const std::function<void(size_t)>& body) {
  if (parts <= 1) {
    if (parts == 1) body(0);
    return;
  }
  auto shared = std::make_shared<Shared>();
  shared->parts = parts;
  shared->body = &body;
  {
    std::lock_guard<std::mutex> hold(mutex_);
    const size_t helpers = std::min(parts, threads_.size()) - 1;
    // In front: a search under way goes before one that has not begun.
    for (size_t i = 0; i < helpers; i++) tasks_.push_front([shared] { shared->help(); });
  }
  wake_.notify_all();
  shared->help();
  std::unique_lock<std::mutex> hold(shared->mutex);
  shared->done.wait(hold, [&] { return shared->finished == shared->parts; });
  if (shared->failure) std::rethrow_exception(shared->failure);
}

}  // namespace reid
