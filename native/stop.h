// The flag by which JavaScript stops a search.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>

namespace reid {

/// new Stop(): a flag that a search looks at between two blocks. fire(): stops the searches that were given it.
class Stop : public Napi::ObjectWrap<Stop> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Stop(const Napi::CallbackInfo& info);

  /// The flag of a Stop, empty where value is undefined; refuses anything else.
  static std::shared_ptr<std::atomic<bool>> flag_of(const Napi::CallbackInfo& info, size_t argument);

 private:
  Napi::Value JS_fire(const Napi::CallbackInfo& info);

  std::shared_ptr<std::atomic<bool>> flag_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace reid
