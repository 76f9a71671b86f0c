// The index object that JavaScript holds.
#pragma once

#include <napi.h>

#include <memory>

#include "arguments.h"
#include "vector_index.h"

namespace reid {

/// Methods called from JavaScript are JS_…; they run on the main thread, copy what they are given, and leave the work
/// to the pool.
class Handle : public Napi::ObjectWrap<Handle> {
 public:
  static Napi::Function define(Napi::Env env);

  /// new Index(kind, dimension, storage, m, efConstruction, efSearch, lists, probes, segments, bits)
  explicit Handle(const Napi::CallbackInfo& info);
  /// An object for an index that was loaded.
  static Napi::Value adopt(Napi::Env env, std::shared_ptr<VectorIndex> index);

 private:
  using Write = void (VectorIndex::*)(const std::vector<double>&, const std::vector<float>&, Pool&);

  template <Napi::Value (Handle::*method)(const Napi::CallbackInfo&)>
  Napi::Value call(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (this->*method)(info); });
  }
  std::shared_ptr<VectorIndex> open(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info, Write method);
  Napi::Value JS_add(const Napi::CallbackInfo& info);
  Napi::Value JS_update(const Napi::CallbackInfo& info);
  Napi::Value JS_train(const Napi::CallbackInfo& info);
  Napi::Value JS_remove(const Napi::CallbackInfo& info);
  Napi::Value JS_search(const Napi::CallbackInfo& info);
  Napi::Value JS_ids(const Napi::CallbackInfo& info);
  Napi::Value JS_features(const Napi::CallbackInfo& info);
  Napi::Value JS_compact(const Napi::CallbackInfo& info);
  Napi::Value JS_save(const Napi::CallbackInfo& info);
  Napi::Value JS_facts(const Napi::CallbackInfo& info);
  Napi::Value JS_describe(const Napi::CallbackInfo& info);
  Napi::Value JS_close(const Napi::CallbackInfo& info);

  std::shared_ptr<VectorIndex> index_;
};

}  // namespace reid
