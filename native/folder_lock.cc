// flock(2) for src/core/folder-lock.ts: the kernel lets go of it when the process dies, however it dies.
#include <fcntl.h>
#include <napi.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

/// lock(path): a descriptor that holds the lock, -1 if another holds it; throws on any other failure.
/// Main thread; does not block.
static Napi::Value JS_lock(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString()) throw Napi::TypeError::New(env, "path must be a string");
  const std::string path = info[0].As<Napi::String>();
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  const auto fail = [&] {
    Napi::Error error = Napi::Error::New(env, path + ": " + std::strerror(errno));
    error.Set("code", errno == EROFS ? "EROFS" : errno == EACCES ? "EACCES" : errno == ENOSPC ? "ENOSPC" : "EIO");
    return error;
  };
  if (descriptor < 0) throw fail();
  if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) return Napi::Number::New(env, descriptor);
  const bool held = errno == EWOULDBLOCK;
  const Napi::Error error = held ? Napi::Error() : fail();
  close(descriptor);
  if (!held) throw error;
  return Napi::Number::New(env, -1);
}

static Napi::Value JS_unlock(const Napi::CallbackInfo& info) {
  close(info[0].As<Napi::Number>().Int32Value());
  return info.Env().Undefined();
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("lock", Napi::Function::New(env, JS_lock));
  exports.Set("unlock", Napi::Function::New(env, JS_unlock));
  return exports;
}

NODE_API_MODULE(folder_lock, Init)
