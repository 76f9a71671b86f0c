// What comes in from JavaScript, checked and copied, and what goes out. Main thread.
#pragma once

#include <napi.h>

#include <algorithm>
#include <string>
#include <vector>

#include "id_set.h"

namespace reid {

/// Throws a TypeError with that code.
[[noreturn]] void refuse(Napi::Env env, const char* code, const std::string& message);

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

/// A whole number within bounds.
double number(const Napi::CallbackInfo& info, size_t argument, const char* what, double low, double high);

/// The ids of a filter: a Float64Array of ids, or a bitmap (Uint8Array, Uint32Array) whose bit 0 is the id that
/// the next argument names. Both are copied; on this side a bitmap's words are little-endian either way.
IdSet id_set(const Napi::CallbackInfo& info, size_t argument, size_t first);

}  // namespace reid
