// Calls from JavaScript as promises: the work runs on the pool, the promise is settled on the main thread.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <string>

#include "pool.h"
#include "vector_index.h"

namespace reid {

/// What the work leaves for the main thread; makes the value the promise resolves to. Owns no JavaScript values:
/// it may be dropped on any thread.
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
  /// Waits for what runs. What is dropped, and what can no longer be settled, is freed.
  ~Instance();

  static Instance& of(const Napi::CallbackInfo& info) { return *info.Env().GetInstanceData<Instance>(); }

  // Main thread, as all below.
  /// Runs work on the pool, beside all other; a thread in the middle of a quick change may run it.
  Napi::Value run_read(Napi::Env env, Work work);
  /// Runs work on the threads for slow changes, beside all other.
  Napi::Value run_slow(Napi::Env env, Work work);
  /// Runs work after what was asked of its owner before.
  Napi::Value run_in_turn(Napi::Env env, const void* owner, Pace pace, Work work);
  /// Runs the first half beside all other, and then the second half in turn; both are slow.
  Napi::Value run_halves(Napi::Env env, const void* owner, Work first, Work second);
  /// Lets go of an index on the pool: to free gigabytes takes milliseconds.
  void drop(std::shared_ptr<VectorIndex> index);

  Napi::FunctionReference index_class;
  /// The index that the next object of that class takes over, while one is made.
  std::shared_ptr<VectorIndex> adopted;

 private:
  using Held = std::shared_ptr<Job>;
  static void settle(Napi::Env env, Napi::Function, Instance* instance, Held* held);
  using Done = Napi::TypedThreadSafeFunction<Instance, Held, &Instance::settle>;

  Pool& pool();
  /// What a thread of the pool does of a job: the work, and its answer.
  Pool::Task task_of(Pool& pool, Held job, Work work);
  Napi::Value promise_of(Napi::Env env, const Held& job);
  void finish(Held job);

  size_t in_flight_ = 0;
  Done done_;
  std::unique_ptr<Pool> pool_;
};

}  // namespace reid
