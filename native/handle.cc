#include "handle.h"

#include "arguments.h"
#include "calls.h"
#include "stop.h"

namespace reid {
namespace {

// Of one search, 12 bytes each and on both sides: above, a wrong k would have the process killed for its memory.
constexpr size_t kMostHits = 100'000'000;

Napi::Value nothing(Napi::Env env) { return env.Undefined(); }

}  // namespace

Napi::Function Handle::define(Napi::Env env) {
  return DefineClass(env, "Index",
                     {InstanceMethod("add", &Handle::call<&Handle::JS_add>),
                      InstanceMethod("update", &Handle::call<&Handle::JS_update>),
                      InstanceMethod("train", &Handle::call<&Handle::JS_train>),
                      InstanceMethod("remove", &Handle::call<&Handle::JS_remove>),
                      InstanceMethod("search", &Handle::call<&Handle::JS_search>),
                      InstanceMethod("ids", &Handle::call<&Handle::JS_ids>),
                      InstanceMethod("features", &Handle::call<&Handle::JS_features>),
                      InstanceMethod("compact", &Handle::call<&Handle::JS_compact>),
                      InstanceMethod("save", &Handle::call<&Handle::JS_save>),
                      InstanceMethod("facts", &Handle::call<&Handle::JS_facts>),
                      InstanceMethod("describe", &Handle::call<&Handle::JS_describe>),
                      InstanceMethod("close", &Handle::call<&Handle::JS_close>)});
}

Handle::Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Handle>(info) {
  if (Instance::of(info).adopted) {
    index_ = std::move(Instance::of(info).adopted);
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

Napi::Value Handle::adopt(Napi::Env env, std::shared_ptr<VectorIndex> index) {
  Instance& instance = *env.GetInstanceData<Instance>();
  // Beside JavaScript's reach: a class that took a pointer from it could be handed another.
  instance.adopted = std::move(index);
  struct Clear {
    std::shared_ptr<VectorIndex>& index;
    ~Clear() { index.reset(); }
  } clear{instance.adopted};
  return instance.index_class.New({});
}

std::shared_ptr<VectorIndex> Handle::open(const Napi::CallbackInfo& info) {
  if (!index_) refuse(info.Env(), "CLOSED", "the index is closed");
  return index_;
}

Napi::Value Handle::write(const Napi::CallbackInfo& info, Write method) {
  auto index = open(info);
  auto ids = copy<double>(info, 0, napi_float64_array, "ids");
  auto features = copy<float>(info, 1, napi_float32_array, "features");
  if (features.size() != ids.size() * size_t(index->dimension())) {
    refuse(info.Env(), "SHAPE", "features must be [" + std::to_string(ids.size()) + ", " +
                                    std::to_string(index->dimension()) + "] but are " +
                                    std::to_string(features.size()) + " numbers");
  }
  return Instance::of(info).run_in_turn(
      info.Env(), index.get(), index->kind().exact ? Pace::quick : Pace::slow,
      [index, method, ids = std::move(ids), features = std::move(features)](Pool& pool) -> Result {
        ((*index).*method)(ids, features, pool);
        return nothing;
      });
}

Napi::Value Handle::JS_add(const Napi::CallbackInfo& info) { return write(info, &VectorIndex::add); }
Napi::Value Handle::JS_update(const Napi::CallbackInfo& info) { return write(info, &VectorIndex::update); }

/// train(features?)
Napi::Value Handle::JS_train(const Napi::CallbackInfo& info) {
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
  return Instance::of(info).run_in_turn(info.Env(), index.get(), Pace::slow,
                                        [index, features = std::move(features)](Pool& pool) -> Result {
                                          index->train(features, pool);
                                          return nothing;
                                        });
}

Napi::Value Handle::JS_remove(const Napi::CallbackInfo& info) {
  auto index = open(info);
  auto ids = copy<double>(info, 0, napi_float64_array, "ids");
  return Instance::of(info).run_in_turn(info.Env(), index.get(), Pace::quick, [index, ids = std::move(ids)](Pool&) -> Result {
    const double removed = double(index->remove(ids));
    return [removed](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, removed); };
  });
}

/// search(queries, k, exact, effort, filterMode, filterIds | bitmap, firstId, stop)
Napi::Value Handle::JS_search(const Napi::CallbackInfo& info) {
  auto index = open(info);
  auto query = std::make_shared<Query>();
  query->features = copy<float>(info, 0, napi_float32_array, "queries");
  const size_t d = size_t(index->dimension());
  if (query->features.empty() || query->features.size() % d != 0) {
    refuse(info.Env(), "SHAPE", "queries must be [Q, " + std::to_string(d) + "] with Q of 1 or more but are " +
                                    std::to_string(query->features.size()) + " numbers");
  }
  query->n = query->features.size() / d;
  query->k = size_t(number(info, 1, "k", 1, 2147483647));
  if (query->k > kMostHits / query->n) {
    refuse(info.Env(), "SHAPE", "k times queries must be at most " + std::to_string(kMostHits) + " but is " +
                                    std::to_string(query->k) + " times " + std::to_string(query->n));
  }
  query->exact = info[2].ToBoolean();
  query->effort = int(number(info, 3, "effort", 0, 1000000));
  const int mode = int(number(info, 4, "filter mode", 0, 2));
  query->filter = mode == 0 ? FilterMode::none : mode == 1 ? FilterMode::only : FilterMode::except;
  auto filter = std::make_shared<FilterIds>();
  if (mode != 0) *filter = filter_ids(info, 5, 6);
  query->stop = Stop::flag_of(info, 7);
  return Instance::of(info).run_read(info.Env(), [index, query, filter](Pool& pool) -> Result {
    query->ids = filter->set();
    query->pool = &pool;
    auto answer = std::make_shared<Answer>(index->search(*query, pool));
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

Napi::Value Handle::JS_ids(const Napi::CallbackInfo& info) {
  auto index = open(info);
  return Instance::of(info).run_read(info.Env(), [index](Pool&) -> Result {
    auto ids = std::make_shared<std::vector<double>>(index->ids());
    return [ids](Napi::Env env) { return typed<Napi::Float64Array>(env, *ids); };
  });
}

Napi::Value Handle::JS_features(const Napi::CallbackInfo& info) {
  auto index = open(info);
  auto ids = copy<double>(info, 0, napi_float64_array, "ids");
  return Instance::of(info).run_read(info.Env(), [index, ids = std::move(ids)](Pool&) -> Result {
    auto features = std::make_shared<std::vector<float>>(index->features(ids));
    return [features](Napi::Env env) { return typed<Napi::Float32Array>(env, *features); };
  });
}

Napi::Value Handle::JS_compact(const Napi::CallbackInfo& info) {
  auto index = open(info);
  auto compaction = std::make_shared<std::shared_ptr<Compaction>>();
  return Instance::of(info).run_halves(
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

Napi::Value Handle::JS_save(const Napi::CallbackInfo& info) {
  auto index = open(info);
  const std::string path = path_of(info, 0);
  return Instance::of(info).run_in_turn(info.Env(), index.get(), Pace::slow, [index, path](Pool&) -> Result {
    index->save(path);
    return nothing;
  });
}

Napi::Value Handle::JS_facts(const Napi::CallbackInfo& info) {
  auto index = open(info);
  return Instance::of(info).run_read(info.Env(), [index](Pool&) -> Result {
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

Napi::Value Handle::JS_describe(const Napi::CallbackInfo& info) {
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
Napi::Value Handle::JS_close(const Napi::CallbackInfo& info) {
  Instance::of(info).drop(std::move(index_));
  index_.reset();
  return info.Env().Undefined();
}

}  // namespace reid
