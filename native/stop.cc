#include "stop.h"

#include "arguments.h"

namespace reid {
namespace {

// Says of an object that it wraps a Stop: to unwrap any other as one would read memory as what it is not.
constexpr napi_type_tag kTag = {0x1f0b7c5d9a3e4826, 0x8e64d21b7f0593ac};

}  // namespace

Napi::Function Stop::define(Napi::Env env) {
  return DefineClass(env, "Stop", {InstanceMethod("fire", &Stop::JS_fire)});
}

Stop::Stop(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Stop>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

std::shared_ptr<std::atomic<bool>> Stop::flag_of(const Napi::CallbackInfo& info, size_t argument) {
  const Napi::Value value = info[argument];
  if (value.IsUndefined()) return nullptr;
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) {
    refuse(info.Env(), "SHAPE", "stop must be a Stop");
  }
  return Unwrap(value.As<Napi::Object>())->flag_;
}

Napi::Value Stop::JS_fire(const Napi::CallbackInfo& info) {
  flag_->store(true, std::memory_order_relaxed);
  return info.Env().Undefined();
}

}  // namespace reid
