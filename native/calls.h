// Calls from JavaScript as promises: the work runs on the pool, the promise is settled on the main thread.
#pragma once

#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "pool.h"

namespace reid {

/// What the work leaves for the main thread; makes the value the promise resolves to.
using Result = std::function<Napi::Value(Napi::Env)>;

struct Job {
  explicit Job(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise::Deferred deferred;
  Result result;
  std::string code;
  std::string message;
};

/// Threads of the pools that are made from now on; 0: as many as the machine has.
void set_threads(unsigned threads, bool pinned);

/// One per environment (the main thread, or a worker that loads the addon).
class Instance {
 public:
  using Work = std::function<Result(Pool&)>;

  explicit Instance(Napi::Env env);
  ~Instance();

  /// Main thread. Runs work on the pool, beside all other.
  Napi::Value run_read(Napi::Env env, Work work);
  /// Main thread. Runs work after what was asked of its owner before.
  Napi::Value run_in_turn(Napi::Env env, const void* owner, Work work);
  /// Main thread. Runs the first half beside all other, and then the second half in turn.
  Napi::Value run_halves(Napi::Env env, const void* owner, Work first, Work second);
  /// Main thread. Made at the first use, so that the threads may be set before.
  Pool& pool();

 private:
  Job* begin(Napi::Env env);
  bool attempt(Job* job, const Work& work);
  void finish(Job* job);
  void settle(Napi::Env env, Job* raw);

  size_t in_flight_ = 0;  // main thread only
  Napi::ThreadSafeFunction done_;
  std::unique_ptr<Pool> pool_;
};

}  // namespace reid
