// JavaScript's side of the addon. Methods called from JavaScript are JS_…; they run on the main thread,
// copy what they are given, and leave the work to the pool.
#include <napi.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

#include "kernels.h"
#include "pool.h"
#include "vector_index.h"

extern "C" void openblas_set_num_threads(int threads);

namespace reid {
namespace {

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
std::atomic<unsigned> wanted_threads{0};
std::atomic<bool> wanted_pinned{false};

size_t threads_of_pool() {
  const unsigned wanted = wanted_threads;
  return wanted > 0 ? wanted : std::max(1u, std::thread::hardware_concurrency());
}

/// One per environment (the main thread, or a worker that loads the addon).
class Instance {
 public:
  using Work = std::function<Result(Pool&)>;

  explicit Instance(Napi::Env env)
      : done_(Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                            "reid index", 0, 1)) {
    done_.Unref(env);
  }
  // Members go in reverse: the pool joins its threads before the function they call is released.
  ~Instance() {
    pool_.reset();
    done_.Release();
  }

  /// Main thread. Runs work on the pool, beside all other.
  Napi::Value run_read(Napi::Env env, Work work) {
    Job* job = begin(env);
    const Napi::Promise promise = job->deferred.Promise();
    pool().post_read([this, job, work = std::move(work)] {
      attempt(job, work);
      finish(job);
    });
    return promise;
  }

  /// Main thread. Runs work after what was asked of its owner before.
  Napi::Value run_in_turn(Napi::Env env, const void* owner, Work work) {
    Job* job = begin(env);
    const Napi::Promise promise = job->deferred.Promise();
    pool().post_in_turn(owner, [this, job, work = std::move(work)] {
      attempt(job, work);
      finish(job);
    });
    return promise;
  }

  /// Main thread. Runs the first half beside all other, and then the second half in turn.
  Napi::Value run_halves(Napi::Env env, const void* owner, Work first, Work second) {
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

  /// Main thread. Made at the first use, so that the threads may be set before.
  Pool& pool() {
    if (!pool_) pool_ = std::make_unique<Pool>(threads_of_pool(), wanted_pinned);
    return *pool_;
  }

 private:
  Job* begin(Napi::Env env) {
    if (in_flight_++ == 0) done_.Ref(env);
    return new Job(env);
  }

  bool attempt(Job* job, const Work& work) {
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

  void finish(Job* job) {
    // Refused while the environment goes away: nobody waits for the promise then.
    done_.BlockingCall(job, [this](Napi::Env environment, Napi::Function, Job* finished) {
      settle(environment, finished);
    });
  }

  void settle(Napi::Env env, Job* raw) {
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

  size_t in_flight_ = 0;  // main thread only
  Napi::ThreadSafeFunction done_;
  std::unique_ptr<Pool> pool_;
};

[[noreturn]] void refuse(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::TypeError::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  throw error;
}

/// Copies a typed array of one type; a detached one has no elements and then the wrong length.
template <class Element>
std::vector<Element> copy(const Napi::CallbackInfo& info, size_t argument, napi_typedarray_type type,
                          const char* what) {
  const Napi::Value value = info[argument];
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    refuse(info.Env(), "SHAPE", std::string(what) + " must be a " +
                                    (type == napi_float64_array ? "Float64Array" : "Float32Array"));
  }
  const auto array = value.As<Napi::TypedArrayOf<Element>>();
  const Element* data = array.Data();
  const size_t length = array.ElementLength();
  if (length > 0 && data == nullptr) refuse(info.Env(), "SHAPE", std::string(what) + " is detached");
  return length == 0 ? std::vector<Element>() : std::vector<Element>(data, data + length);
}

template <class Array, class Element>
Napi::Value typed(Napi::Env env, const std::vector<Element>& values) {
  Array array = Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

double number(const Napi::CallbackInfo& info, size_t argument, const char* what, double low, double high) {
  const Napi::Value value = info[argument];
  const double received = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : low - 1;
  if (!(received >= low && received <= high) || received != double(int64_t(received))) {
    refuse(info.Env(), "SHAPE", std::string(what) + " must be a whole number from " +
                                    std::to_string(int64_t(low)) + " to " + std::to_string(int64_t(high)));
  }
  return received;
}

/// The ids of a filter: a Float64Array of ids, or a bitmap (Uint8Array, Uint32Array) whose bit 0 is the id that
/// the next argument names. Both are copied; on this side a bitmap's words are little-endian either way.
IdSet id_set(const Napi::CallbackInfo& info, size_t argument, size_t first) {
  const Napi::Value value = info[argument];
  const napi_typedarray_type type =
      value.IsTypedArray() ? value.As<Napi::TypedArray>().TypedArrayType() : napi_float64_array;
  if (type != napi_uint8_array && type != napi_uint32_array) {
    std::vector<int64_t> ids;
    for (double id : copy<double>(info, argument, napi_float64_array, "filter ids")) {
      try {
        ids.push_back(id_from(id));
      } catch (const Failure& failure) {
        refuse(info.Env(), failure.code, failure.what());
      }
    }
    return IdSet::of(std::move(ids));
  }
  const auto first_id = int64_t(number(info, first, "firstId", 0, 9007199254740991.0));
  const auto bitmap = value.As<Napi::TypedArray>();
  const size_t bytes = bitmap.ByteLength();
  std::vector<uint64_t> words((bytes + 7) / 8);
  if (bytes > 0) {
    const auto* data = static_cast<const uint8_t*>(bitmap.ArrayBuffer().Data());
    if (data == nullptr) refuse(info.Env(), "SHAPE", "bitmap is detached");
    std::memcpy(words.data(), data + bitmap.ByteOffset(), bytes);
  }
  return IdSet::of_bits(std::move(words), first_id);
}

using Stop = std::shared_ptr<std::atomic<bool>>;

class Handle : public Napi::ObjectWrap<Handle> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Index",
                       {InstanceMethod("add", &Handle::JS_add), InstanceMethod("update", &Handle::JS_update),
                        InstanceMethod("train", &Handle::JS_train), InstanceMethod("remove", &Handle::JS_remove),
                        InstanceMethod("search", &Handle::JS_search), InstanceMethod("ids", &Handle::JS_ids),
                        InstanceMethod("features", &Handle::JS_features),
                        InstanceMethod("compact", &Handle::JS_compact),
                        InstanceMethod("save", &Handle::JS_save), InstanceMethod("facts", &Handle::JS_facts),
                        InstanceMethod("describe", &Handle::JS_describe),
                        InstanceMethod("close", &Handle::JS_close)});
  }

  /// new Index(kind, dimension, storage, m, efConstruction, efSearch, lists, probes, segments, bits), or
  /// new Index(External) after a load.
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Handle>(info) {
    if (info.Length() == 1 && info[0].IsExternal()) {
      index_ = *info[0].As<Napi::External<std::shared_ptr<VectorIndex>>>().Data();
      return;
    }
    if (!info[0].IsString()) refuse(info.Env(), "SHAPE", "kind must be a string");
    const std::string name = info[0].As<Napi::String>();
    const IndexKind* kind = find_kind(name);
    if (!kind) refuse(info.Env(), "SHAPE", "there is no index kind \"" + name + "\"");
    IndexParameters parameters;
    const int dimension = int(number(info, 1, "dimension", 1, 65536));
    if (!info[2].IsString() || !storage_from(info[2].As<Napi::String>(), parameters.storage) ||
        parameters.storage == Storage::product) {
      refuse(info.Env(), "SHAPE", "storage must be f32, f16 or int8");
    }
    parameters.m = int(number(info, 3, "m", 2, 1024));
    parameters.ef_construction = int(number(info, 4, "efConstruction", 1, 100000));
    parameters.ef_search = int(number(info, 5, "efSearch", 1, 100000));
    parameters.lists = int(number(info, 6, "lists", 0, 65536));
    parameters.probes = int(number(info, 7, "probes", 0, 65536));
    parameters.segments = int(number(info, 8, "segments", 0, 65536));
    parameters.bits = int(number(info, 9, "bits", 4, 8));
    if (parameters.segments > 0 && dimension % parameters.segments != 0) {
      refuse(info.Env(), "SHAPE", "segments must divide the dimension, " + std::to_string(dimension));
    }
    index_ = std::make_shared<VectorIndex>(kind, dimension, parameters);
  }

 private:
  std::shared_ptr<VectorIndex> open(const Napi::CallbackInfo& info) {
    if (!index_) refuse(info.Env(), "CLOSED", "the index is closed");
    return index_;
  }
  static Instance& instance(const Napi::CallbackInfo& info) { return *info.Env().GetInstanceData<Instance>(); }
  static Napi::Value nothing(Napi::Env env) { return env.Undefined(); }

  using Write = void (VectorIndex::*)(const std::vector<double>&, const std::vector<float>&, Pool&);

  Napi::Value write(const Napi::CallbackInfo& info, Write method) {
    auto index = open(info);
    auto ids = copy<double>(info, 0, napi_float64_array, "ids");
    auto features = copy<float>(info, 1, napi_float32_array, "features");
    if (features.size() != ids.size() * size_t(index->dimension())) {
      refuse(info.Env(), "SHAPE", "features must be [" + std::to_string(ids.size()) + ", " +
                                      std::to_string(index->dimension()) + "] but are " +
                                      std::to_string(features.size()) + " numbers");
    }
    return instance(info).run_in_turn(
        info.Env(), index.get(),
        [index, method, ids = std::move(ids), features = std::move(features)](Pool& pool) -> Result {
          ((*index).*method)(ids, features, pool);
          return nothing;
        });
  }

  Napi::Value JS_add(const Napi::CallbackInfo& info) { return write(info, &VectorIndex::add); }
  Napi::Value JS_update(const Napi::CallbackInfo& info) { return write(info, &VectorIndex::update); }

  /// train(features?)
  Napi::Value JS_train(const Napi::CallbackInfo& info) {
    auto index = open(info);
    std::vector<float> features;
    if (!info[0].IsUndefined()) {
      features = copy<float>(info, 0, napi_float32_array, "features");
      if (features.empty() || features.size() % size_t(index->dimension()) != 0) {
        refuse(info.Env(), "SHAPE", "features must be [N, " + std::to_string(index->dimension()) +
                                        "] with N of 1 or more but are " + std::to_string(features.size()) +
                                        " numbers");
      }
    }
    return instance(info).run_in_turn(info.Env(), index.get(),
                                      [index, features = std::move(features)](Pool& pool) -> Result {
                                        index->train(features, pool);
                                        return nothing;
                                      });
  }

  Napi::Value JS_remove(const Napi::CallbackInfo& info) {
    auto index = open(info);
    auto ids = copy<double>(info, 0, napi_float64_array, "ids");
    return instance(info).run_in_turn(info.Env(), index.get(), [index, ids = std::move(ids)](Pool&) -> Result {
      const double removed = double(index->remove(ids));
      return [removed](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, removed); };
    });
  }

  /// search(queries, k, exact, effort, filterMode, filterIds | bitmap, firstId, stop)
  Napi::Value JS_search(const Napi::CallbackInfo& info) {
    auto index = open(info);
    Query query;
    query.features = copy<float>(info, 0, napi_float32_array, "queries");
    const size_t d = size_t(index->dimension());
    if (query.features.empty() || query.features.size() % d != 0) {
      refuse(info.Env(), "SHAPE", "queries must be [Q, " + std::to_string(d) + "] with Q of 1 or more but are " +
                                      std::to_string(query.features.size()) + " numbers");
    }
    query.n = query.features.size() / d;
    query.k = size_t(number(info, 1, "k", 1, 2147483647));
    if (double(query.k) * double(query.n) > 1e9) refuse(info.Env(), "SHAPE", "k times queries is above 10^9");
    query.exact = info[2].ToBoolean();
    query.effort = int(number(info, 3, "effort", 0, 1000000));
    const int mode = int(number(info, 4, "filter mode", 0, 2));
    query.filter = mode == 0 ? FilterMode::none : mode == 1 ? FilterMode::only : FilterMode::except;
    if (mode != 0) query.ids = id_set(info, 5, 6);
    if (info[7].IsExternal()) query.stop = *info[7].As<Napi::External<Stop>>().Data();
    return instance(info).run_read(info.Env(), [index, query = std::move(query)](Pool& pool) -> Result {
      auto answer = std::make_shared<Answer>(index->search(query, pool));
      return [answer](Napi::Env env) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("ids", typed<Napi::Float64Array>(env, answer->ids));
        object.Set("similarities", typed<Napi::Float32Array>(env, answer->similarities));
        object.Set("exact", Napi::Boolean::New(env, answer->exact));
        object.Set("error", double(answer->error));
        return object;
      };
    });
  }

  Napi::Value JS_ids(const Napi::CallbackInfo& info) {
    auto index = open(info);
    return instance(info).run_read(info.Env(), [index](Pool&) -> Result {
      auto ids = std::make_shared<std::vector<double>>(index->ids());
      return [ids](Napi::Env env) { return typed<Napi::Float64Array>(env, *ids); };
    });
  }

  Napi::Value JS_features(const Napi::CallbackInfo& info) {
    auto index = open(info);
    auto ids = copy<double>(info, 0, napi_float64_array, "ids");
    return instance(info).run_read(info.Env(), [index, ids = std::move(ids)](Pool&) -> Result {
      auto features = std::make_shared<std::vector<float>>(index->features(ids));
      return [features](Napi::Env env) { return typed<Napi::Float32Array>(env, *features); };
    });
  }

  Napi::Value JS_compact(const Napi::CallbackInfo& info) {
    auto index = open(info);
    auto compaction = std::make_shared<std::shared_ptr<Compaction>>();
    return instance(info).run_halves(
        info.Env(), index.get(),
        [index, compaction](Pool& pool) -> Result {
          *compaction = index->start_compaction(pool);
          return nothing;
        },
        [index, compaction](Pool& pool) -> Result {
          index->finish_compaction(**compaction, pool);
          return nothing;
        });
  }

  Napi::Value JS_save(const Napi::CallbackInfo& info) {
    auto index = open(info);
    if (!info[0].IsString()) refuse(info.Env(), "SHAPE", "path must be a string");
    const std::string path = info[0].As<Napi::String>();
    return instance(info).run_in_turn(info.Env(), index.get(), [index, path](Pool&) -> Result {
      index->save(path);
      return nothing;
    });
  }

  Napi::Value JS_facts(const Napi::CallbackInfo& info) {
    auto index = open(info);
    return instance(info).run_read(info.Env(), [index](Pool&) -> Result {
      const Facts facts = index->facts();
      return [facts](Napi::Env env) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("count", facts.count);
        object.Set("tombstones", facts.tombstones);
        object.Set("sizeBytes", facts.bytes);
        object.Set("isTrained", facts.trained);
        object.Set("lists", facts.lists);
        object.Set("error", facts.error);
        return object;
      };
    });
  }

  Napi::Value JS_describe(const Napi::CallbackInfo& info) {
    auto index = open(info);
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("kind", index->kind().name);
    object.Set("dimension", index->dimension());
    const IndexParameters& parameters = index->parameters();
    object.Set("storage", name_of(parameters.storage));
    object.Set("m", parameters.m);
    object.Set("efConstruction", parameters.ef_construction);
    object.Set("efSearch", parameters.ef_search);
    object.Set("lists", parameters.lists);
    object.Set("probes", parameters.probes);
    object.Set("segments", parameters.segments);
    object.Set("bits", parameters.bits);
    return object;
  }

  /// Calls under way keep the index alive; the last of them frees it.
  Napi::Value JS_close(const Napi::CallbackInfo& info) {
    index_.reset();
    return info.Env().Undefined();
  }

  std::shared_ptr<VectorIndex> index_;
};

/// load(path, mapped): resolves to an External for `new Index(external)`.
Napi::Value JS_load(const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) refuse(info.Env(), "SHAPE", "path must be a string");
  const std::string path = info[0].As<Napi::String>();
  const bool mapped = info[1].ToBoolean();
  return info.Env().GetInstanceData<Instance>()->run_read(info.Env(), [path, mapped](Pool&) -> Result {
    auto index = VectorIndex::load(path, mapped);
    return [index](Napi::Env env) -> Napi::Value {
      using Held = std::shared_ptr<VectorIndex>;
      return Napi::External<Held>::New(env, new Held(index), [](Napi::Env, Held* held) { delete held; });
    };
  });
}

/// createStop(): a flag that a search looks at between two blocks.
Napi::Value JS_createStop(const Napi::CallbackInfo& info) {
  return Napi::External<Stop>::New(info.Env(), new Stop(std::make_shared<std::atomic<bool>>(false)),
                                   [](Napi::Env, Stop* stop) { delete stop; });
}

Napi::Value JS_stop(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal()) refuse(info.Env(), "SHAPE", "stop must come from createStop");
  (*info[0].As<Napi::External<Stop>>().Data())->store(true);
  return info.Env().Undefined();
}

/// setThreads(threads, pinned): of the pools made from now on, one for each environment at its first call.
Napi::Value JS_setThreads(const Napi::CallbackInfo& info) {
  wanted_threads = unsigned(number(info, 0, "threads", 0, 1024));
  wanted_pinned = info[1].ToBoolean();
  return info.Env().Undefined();
}

Napi::Value JS_kernels(const Napi::CallbackInfo& info) {
  const std::vector<std::string> names = kernel_names();
  Napi::Array array = Napi::Array::New(info.Env(), names.size());
  for (size_t i = 0; i < names.size(); i++) array.Set(uint32_t(i), names[i]);
  return array;
}

Napi::Value JS_useKernel(const Napi::CallbackInfo& info) {
  const std::string before = kernel_in_use();
  if (!info[0].IsString() || !use_kernel(info[0].As<Napi::String>())) {
    refuse(info.Env(), "SHAPE", "this processor has no such kernel");
  }
  return Napi::String::New(info.Env(), before);
}

/// innerProduct(x, y): y as float32, as binary16 (Uint16Array) or as whole numbers (Uint8Array). For tests.
Napi::Value JS_innerProduct(const Napi::CallbackInfo& info) {
  const auto x = copy<float>(info, 0, napi_float32_array, "x");
  const auto type = info[1].IsTypedArray() ? info[1].As<Napi::TypedArray>().TypedArrayType() : napi_float32_array;
  const auto product = [&](const auto& y, auto kernel) -> Napi::Value {
    if (x.size() != y.size()) refuse(info.Env(), "SHAPE", "x and y must be equally long");
    return Napi::Number::New(info.Env(), double(kernel(x.data(), y.data(), x.size())));
  };
  if (type == napi_uint16_array) return product(copy<uint16_t>(info, 1, type, "y"), inner_product_halves);
  if (type == napi_uint8_array) return product(copy<uint8_t>(info, 1, type, "y"), inner_product_bytes);
  return product(copy<float>(info, 1, napi_float32_array, "y"), inner_product);
}

Napi::Object JS_init(Napi::Env env, Napi::Object exports) {
  // The pool's threads share a search out: a matrix product of one of them starts no threads of its own.
  openblas_set_num_threads(1);
  env.SetInstanceData<Instance>(new Instance(env));
  exports.Set("Index", Handle::define(env));
  exports.Set("load", Napi::Function::New(env, JS_load));
  exports.Set("createStop", Napi::Function::New(env, JS_createStop));
  exports.Set("stop", Napi::Function::New(env, JS_stop));
  exports.Set("setThreads", Napi::Function::New(env, JS_setThreads));
  exports.Set("kernels", Napi::Function::New(env, JS_kernels));
  exports.Set("useKernel", Napi::Function::New(env, JS_useKernel));
  exports.Set("innerProduct", Napi::Function::New(env, JS_innerProduct));
  return exports;
}

}  // namespace
}  // namespace reid

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return reid::JS_init(env, exports); }

NODE_API_MODULE(faiss, Init)
