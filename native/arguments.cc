#include "arguments.h"

#include <cstring>

namespace reid {
namespace {

bool is_detached(Napi::Env env, napi_value buffer) {
  bool detached = false;
  return napi_is_detached_arraybuffer(env, buffer, &detached) == napi_ok && detached;
}

const char* name_of(napi_typedarray_type type) {
  switch (type) {
    case napi_float64_array:
      return "Float64Array";
    case napi_float32_array:
      return "Float32Array";
    case napi_uint32_array:
      return "Uint32Array";
    case napi_uint16_array:
      return "Uint16Array";
    case napi_uint8_array:
      return "Uint8Array";
    default:
      return "typed array";
  }
}

}  // namespace

void refuse(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::TypeError::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  throw error;
}

View view_of(const Napi::CallbackInfo& info, size_t argument, napi_typedarray_type type, const char* what) {
  const Napi::Env env = info.Env();
  napi_typedarray_type there = napi_int8_array;
  View view = {nullptr, 0};
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (!info[argument].IsTypedArray() ||
      napi_get_typedarray_info(env, info[argument], &there, &view.length, &data, &buffer, nullptr) != napi_ok ||
      there != type) {
    refuse(env, "SHAPE", std::string(what) + " must be a " + name_of(type));
  }
  if (view.length == 0 && is_detached(env, buffer)) refuse(env, "SHAPE", std::string(what) + " is detached");
  view.data = data;
  return view;
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

std::string path_of(const Napi::CallbackInfo& info, size_t argument) {
  if (!info[argument].IsString()) refuse(info.Env(), "SHAPE", "path must be a string");
  std::string path = info[argument].As<Napi::String>();
  if (path.find('\0') != std::string::npos) refuse(info.Env(), "SHAPE", "path must not contain a NUL character");
  return path;
}

IdSet FilterIds::set() {
  if (is_bitmap) return IdSet::of_bits(std::move(words), first);
  std::vector<int64_t> whole;
  whole.reserve(ids.size());
  for (double id : ids) whole.push_back(id_from(id));
  return IdSet::of(std::move(whole));
}

FilterIds filter_ids(const Napi::CallbackInfo& info, size_t argument, size_t first) {
  const Napi::Value value = info[argument];
  const napi_typedarray_type type =
      value.IsTypedArray() ? value.As<Napi::TypedArray>().TypedArrayType() : napi_float64_array;
  FilterIds filter;
  if (info[first].IsUndefined() || (type != napi_uint8_array && type != napi_uint32_array)) {
    filter.ids = copy<double>(info, argument, napi_float64_array, "filter ids");
    return filter;
  }
  filter.is_bitmap = true;
  filter.first = int64_t(number(info, first, "firstId", 0, 9007199254740991.0));
  const View bitmap = view_of(info, argument, type, "bitmap");
  const size_t bytes = bitmap.length * (type == napi_uint32_array ? 4 : 1);
  filter.words.resize((bytes + 7) / 8);
  if (bytes > 0) std::memcpy(filter.words.data(), bitmap.data, bytes);
  return filter;
}

}  // namespace reid
