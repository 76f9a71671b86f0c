// The addon's functions; its index object is in handle.cc. Functions called from JavaScript are JS_….
#include <faiss/impl/AuxIndexStructures.h>
#include <malloc.h>
#include <napi.h>

#include <memory>
#include <mutex>

#include "arguments.h"
#include "calls.h"
#include "handle.h"
#include "kernels.h"
#include "stop.h"
#include "vector_index.h"

extern "C" void openblas_set_num_threads(int threads);

namespace reid {
namespace {

/// Asked by FAISS between two iterations of a training: minutes at the end of a process or worker.
struct Interrupt : faiss::InterruptCallback {
  bool want_interrupt() override {
    const Pool* pool = Pool::current();
    return pool && pool->stopping();
  }
};

/// load(path, mapped): resolves to an Index.
Napi::Value JS_load(const Napi::CallbackInfo& info) {
  const std::string path = path_of(info, 0);
  const bool mapped = info[1].ToBoolean();
  // As a write, though it changes nothing: no thread reads a file of gigabytes in the middle of another's write.
  return Instance::of(info).run_slow(info.Env(), [path, mapped](Pool&) -> Result {
    auto index = VectorIndex::load(path, mapped);
    return [index](Napi::Env env) -> Napi::Value { return Handle::adopt(env, index); };
  });
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

/// squaredDistance(x, y): of two float32 [d]. For tests.
Napi::Value JS_squaredDistance(const Napi::CallbackInfo& info) {
  const auto x = copy<float>(info, 0, napi_float32_array, "x");
  const auto y = copy<float>(info, 1, napi_float32_array, "y");
  if (x.size() != y.size()) refuse(info.Env(), "SHAPE", "x and y must be equally long");
  return Napi::Number::New(info.Env(), double(squared_distance(x.data(), y.data(), x.size())));
}

Napi::Object JS_init(Napi::Env env, Napi::Object exports) {
  // Once: another environment may be in the middle of a product, or of a training.
  static std::once_flag once;
  std::call_once(once, [] {
    // The pool's threads share a search out: a matrix product of one of them starts no threads of its own.
    openblas_set_num_threads(1);
    // glibc raises the first by itself up to 32 MiB, and keeps the holes that growing arrays leave: 27 MB of a graph of
    // 100,000, as much as half of it. The second would then rise with it.
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 4 << 20);
    faiss::InterruptCallback::instance = std::make_unique<Interrupt>();
  });
  auto* instance = new Instance(env);
  env.SetInstanceData<Instance>(instance);
  const Napi::Function index = Handle::define(env);
  instance->index_class = Napi::Persistent(index);
  exports.Set("Index", index);
  exports.Set("Stop", Stop::define(env));
  exports.Set("load", Napi::Function::New<guarded<JS_load>>(env));
  exports.Set("setThreads", Napi::Function::New<guarded<JS_setThreads>>(env));
  exports.Set("kernels", Napi::Function::New<guarded<JS_kernels>>(env));
  exports.Set("useKernel", Napi::Function::New<guarded<JS_useKernel>>(env));
  exports.Set("innerProduct", Napi::Function::New<guarded<JS_innerProduct>>(env));
  exports.Set("squaredDistance", Napi::Function::New<guarded<JS_squaredDistance>>(env));
  return exports;
}

}  // namespace
}  // namespace reid

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return reid::JS_init(env, exports); }

NODE_API_MODULE(faiss, Init)
