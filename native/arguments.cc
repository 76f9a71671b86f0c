#include "arguments.h"

#include <cstring>

#include "vector_index.h"

namespace reid {

void refuse(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::TypeError::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  throw error;
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

}  // namespace reid
