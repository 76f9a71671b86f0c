#include "calls.h"

#include <algorithm>
#include <atomic>
#include <thread>

namespace reid {
namespace {

std::atomic<unsigned> wanted_threads{0};
std::atomic<bool> wanted_pinned{false};

size_t threads_of_pool() {
  const unsigned wanted = wanted_threads;
  return wanted > 0 ? wanted : std::max(1u, std::thread::hardware_concurrency());
}

/// False where the work failed; the job then says how.
bool attempt(Job& job, const Instance::Work& work, Pool& pool) {
  try {
    job.result = work(pool);
    return true;
  } catch (const Failure& failure) {
    job.code = failure.code;
    job.message = failure.what();
  } catch (const std::bad_alloc&) {
    job.code = "INDEX_FAILED";
    job.message = "out of memory";
  } catch (const std::exception& error) {
    job.code = "INDEX_FAILED";
    job.message = error.what();
  }
  return false;
}

void reject(Napi::Env env, const Job& job) {
  Napi::Error error = Napi::Error::New(env, job.message);
  error.Set("code", Napi::String::New(env, job.code));
  job.deferred.Reject(error.Value());
}

}  // namespace

void set_threads(unsigned threads, bool pinned) {
  wanted_threads = threads;
  wanted_pinned = pinned;
}

Instance::Instance(Napi::Env env) : done_(Done::New(env, "reid index", 0, 1, this)) { done_.Unref(env); }

// The pool joins its threads before the function they call is released.
Instance::~Instance() {
  pool_.reset();
  done_.Release();
}

// Works take the pool by reference: while ~Instance waits for them, pool_ is empty already.
Pool::Task Instance::task_of(Pool& pool, Held job, Work work) {
  return [this, &pool, job = std::move(job), work = std::move(work)] {
    attempt(*job, work, pool);
    finish(job);
  };
}

Napi::Value Instance::run_read(Napi::Env env, Work work) {
  const Held job = std::make_shared<Job>(env);
  Pool& pool = this->pool();
  pool.post_read(task_of(pool, job, std::move(work)));
  return promise_of(env, job);
}

Napi::Value Instance::run_slow(Napi::Env env, Work work) {
  const Held job = std::make_shared<Job>(env);
  Pool& pool = this->pool();
  pool.post_slow(task_of(pool, job, std::move(work)));
  return promise_of(env, job);
}

Napi::Value Instance::run_in_turn(Napi::Env env, const void* owner, Pace pace, Work work) {
  const Held job = std::make_shared<Job>(env);
  Pool& pool = this->pool();
  pool.post_in_turn(owner, pace, task_of(pool, job, std::move(work)));
  return promise_of(env, job);
}

Napi::Value Instance::run_halves(Napi::Env env, const void* owner, Work first, Work second) {
  const Held job = std::make_shared<Job>(env);
  Pool& pool = this->pool();
  pool.post_slow([this, &pool, job, owner, first = std::move(first), second = std::move(second)] {
    if (!attempt(*job, first, pool)) return finish(job);
    pool.post_in_turn(owner, Pace::slow, task_of(pool, job, second));
  });
  return promise_of(env, job);
}

void Instance::drop(std::shared_ptr<VectorIndex> index) {
  if (pool_ && index) pool_->post_read([index = std::move(index)] {});
}

/// Made at the first use, so that the threads may be set before.
Pool& Instance::pool() {
  if (!pool_) pool_ = std::make_unique<Pool>(threads_of_pool(), wanted_pinned);
  return *pool_;
}

Napi::Value Instance::promise_of(Napi::Env env, const Held& job) {
  if (in_flight_++ == 0) done_.Ref(env);
  return job->deferred.Promise();
}

/// On a thread of the pool.
void Instance::finish(Held job) {
  auto* held = new Held(std::move(job));
  // Refused while the environment goes away: nobody waits for the promise then.
  if (done_.BlockingCall(held) != napi_ok) delete held;
}

void Instance::settle(Napi::Env env, Napi::Function, Instance* instance, Held* raw) {
  const std::unique_ptr<Held> held(raw);
  if (env == nullptr) return;
  Job& job = **held;
  Napi::HandleScope scope(env);
  if (--instance->in_flight_ == 0) instance->done_.Unref(env);
  try {
    if (job.code.empty()) {
      try {
        return job.deferred.Resolve(job.result(env));
      } catch (const Napi::Error& error) {  // JavaScript has no room for the result
        job.code = "INDEX_FAILED";
        job.message = error.Message();
      }
    }
    reject(env, job);
  } catch (const Napi::Error&) {
    // A worker that is being terminated: it runs no JavaScript any more, and nobody waits.
  }
}

}  // namespace reid
