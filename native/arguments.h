// What comes in from JavaScript, checked and copied, and what goes out. Main thread.
#pragma once

#include <napi.h>

#include <algorithm>
#include <new>
#include <string>
#include <vector>

#include "id_set.h"
#include "vector_index.h"

namespace reid {

/// Throws a TypeError with that code.
[[noreturn]] void refuse(Napi::Env env, const char* code, const std::string& message);

/// Runs body with failures of C++ as errors of JavaScript: anything else that left it would end the process.
template <class Body>
Napi::Value guarded(Napi::Env env, const Body& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const Failure& failure) {
    refuse(env, failure.code, failure.what());
  } catch (const std::bad_alloc&) {
    refuse(env, "INDEX_FAILED", "out of memory");
  } catch (const std::exception& error) {
    refuse(env, "INDEX_FAILED", error.what());
  }
}

/// A function of the addon, guarded.
template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return function(info); });
}

/// The elements of a typed array, borrowed until JavaScript runs again. Over shared memory too, which another thread
/// may write to meanwhile: read each element once, and check the copy.
struct View {
  const void* data;
  size_t length;
};

/// Refuses what is no typed array of that type, and one that is detached: it has no elements, so that a call would do
/// nothing and say that all is well.
View view_of(const Napi::CallbackInfo& info, size_t argument, napi_typedarray_type type, const char* what);

/// Copies a typed array of one type.
template <class Element>
std::vector<Element> copy(const Napi::CallbackInfo& info, size_t argument, napi_typedarray_type type,
                          const char* what) {
  const View view = view_of(info, argument, type, what);
  const auto* data = static_cast<const Element*>(view.data);
  return view.length == 0 ? std::vector<Element>() : std::vector<Element>(data, data + view.length);
}

template <class Array, class Element>
Napi::Value typed(Napi::Env env, const std::vector<Element>& values) {
  Array array = Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

/// A whole number within bounds.
double number(const Napi::CallbackInfo& info, size_t argument, const char* what, double low, double high);

/// A path; refuses one with a NUL, which would end it early.
std::string path_of(const Napi::CallbackInfo& info, size_t argument);

/// The ids of a filter as they came in: to sort a million takes too long for the main thread.
struct FilterIds {
  std::vector<double> ids;
  std::vector<uint64_t> words;  // of a bitmap; little-endian, as JavaScript's side is
  int64_t first = 0;
  bool is_bitmap = false;

  /// Any thread; throws Failure SHAPE.
  IdSet set();
};

/// A Float64Array of ids; or, where argument `first` is given, a bitmap (Uint8Array, Uint32Array) whose bit 0 is that id.
FilterIds filter_ids(const Napi::CallbackInfo& info, size_t argument, size_t first);

}  // namespace reid
