// The addon's functions; its index object is in handle.cc. Functions called from JavaScript are JS_….
#include <napi.h>

#include "arguments.h"
#include "calls.h"
#include "handle.h"
#include "kernels.h"
#include "vector_index.h"

extern "C" void openblas_set_num_threads(int threads);

namespace reid {
namespace {

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
  set_threads(unsigned(number(info, 0, "threads", 0, 1024)), info[1].ToBoolean());
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