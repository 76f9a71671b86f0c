#include "calls.h"

#include <algorithm>
#include <thread>

#include "vector_index.h"

namespace reid {
namespace {

std::atomic<unsigned> wanted_threads{0};
std::atomic<bool> wanted_pinned{false};

size_t threads_of_pool() {
  const unsigned wanted = wanted_threads;
  return wanted > 0 ? wanted : std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

void set_threads(unsigned threads, bool pinned) {
  wanted_threads = threads;
  wanted_pinned = pinned;
}

Instance::Instance(Napi::Env env)
    : done_(Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                          "reid index", 0, 1)) {
  done_.Unref(env);
}

// The pool joins its threads before the function they call is released.
Instance::~Instance() {
  pool_.reset();
  done_.Release();
}

Napi::Value Instance::run_read(Napi::Env env, Work work) {
  Job* job = begin(env);
  const Napi::Promise promise = job->deferred.Promise();
  pool().post_read([this, job, work = std::move(work)] {
    attempt(job, work);
    finish(job);
  });
  return promise;
}

Napi::Value Instance::run_in_turn(Napi::Env env, const void* owner, Work work) {
  Job* job = begin(env);
  const Napi::Promise promise = job->deferred.Promise();
  pool().post_in_turn(owner, [this, job, work = std::move(work)] {
    attempt(job, work);
    finish(job);
  });
  return promise;
}

Napi::Value Instance::run_halves(Napi::Env env, const void* owner, Work first, Work second) {
  Job* job = begin(env);
  const Napi::Promise promise = job->deferred.Promise();
  pool().post_write([this, job, owner, first = std::move(first), second = std::move(second)] {
    if (!attempt(job, first)) return finish(job);
    pool_->post_in_turn(owner, [this, job, second] {
      attempt(job, second);
      finish(job);
    });
  });
  return promise;
}

Pool& Instance::pool() {
  if (!pool_) pool_ = std::make_unique<Pool>(threads_of_pool(), wanted_pinned);
  return *pool_;
}

Job* Instance::begin(Napi::Env env) {
  if (in_flight_++ == 0) done_.Ref(env);
  return new Job(env);
}

bool Instance::attempt(Job* job, const Work& work) {
  try {
    job->result = work(*pool_);
    return true;
  } catch (const Failure& failure) {
    job->code = failure.code;
    job->message = failure.what();
  } catch (const std::bad_alloc&) {
    job->code = "INDEX_FAILED";
    job->message = "out of memory";
  } catch (const std::exception& error) {
    job->code = "INDEX_FAILED";
    job->message = error.what();
  }
  return false;
}

void Instance::finish(Job* job) {
  // Refused while the environment goes away: nobody waits for the promise then.
  done_.BlockingCall(job, [this](Napi::Env environment, Napi::Function, Job* finished) {
    settle(environment, finished);
  });
}

void Instance::settle(Napi::Env env, Job* raw) {
  std::unique_ptr<Job> job(raw);
  if (env == nullptr) return;
  Napi::HandleScope scope(env);
  if (job->code.empty()) {
    job->deferred.Resolve(job->result(env));
  } else {
    Napi::Error error = Napi::Error::New(env, job->message);
    error.Set("code", Napi::String::New(env, job->code));
    job->deferred.Reject(error.Value());
  }
  if (--in_flight_ == 0) done_.Unref(env);
}

}  // namespace reid
