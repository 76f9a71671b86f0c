// Preloaded into a process under torture (test/support/torture-faults.ts): counts the calls that change files below
// one folder, and lets the N-th of them fail, tear, or end the process before it happens.
//
//   REID_FAULT_UNDER=FOLDER   only files below it count
//   REID_FAULT_DOES=count | kill | torn | done-EIO | ENOSPC | EIO | EROFS | EDQUOT
//   REID_FAULT_AT=N           the first call hit; counted from 1
//   REID_FAULT_LENGTH=M       calls hit from there on; default 1
//   REID_FAULT_CALLS=A,B,…    names of the calls that count; default all
//   REID_FAULT_LOG=FILE       a line for each call that counts: its number, name and path
//
// `torn` writes the first half of the bytes and ends the process: what a power cut leaves of a write. `done-EIO` makes
// the call and answers EIO: what was to be done is done, and the caller is told otherwise.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE = 0, KILL = -1, TORN = -2, DONE = -3 };

static const char *under, *calls;
static size_t under_length;
static long first, length = 1;
static int does, log_fd = -1;
static long count;

__attribute__((constructor)) static void configure(void) {
  const char *text;
  under = getenv("REID_FAULT_UNDER");
  under_length = under ? strlen(under) : 0;
  calls = getenv("REID_FAULT_CALLS");
  if ((text = getenv("REID_FAULT_AT"))) first = atol(text);
  if ((text = getenv("REID_FAULT_LENGTH"))) length = atol(text);
  if ((text = getenv("REID_FAULT_DOES"))) {
    if (!strcmp(text, "kill")) does = KILL;
    if (!strcmp(text, "torn")) does = TORN;
    if (!strcmp(text, "done-EIO")) does = DONE;
    if (!strcmp(text, "ENOSPC")) does = ENOSPC;
    if (!strcmp(text, "EIO")) does = EIO;
    if (!strcmp(text, "EROFS")) does = EROFS;
    if (!strcmp(text, "EDQUOT")) does = EDQUOT;
  }
  if ((text = getenv("REID_FAULT_LOG")))
    log_fd = syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int counts(const char *call) {
  if (!calls) return 1;
  const size_t size = strlen(call);
  for (const char *at = calls; (at = strstr(at, call)); at += size)
    if ((at == calls || at[-1] == ',') && (at[size] == 0 || at[size] == ',')) return 1;
  return 0;
}

// What is to happen to a call on a path: NONE, KILL, TORN, or an errno.
static int fate_of_path(const char *call, const char *path) {
  if (!under || !path || strncmp(path, under, under_length) || !counts(call)) return NONE;
  const long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
  if (log_fd >= 0) {
    char line[1200];
    const int size = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path + under_length);
    syscall(SYS_write, log_fd, line, size < (int)sizeof line ? size : (int)sizeof line);
  }
  return number >= first && number < first + length ? does : NONE;
}

static int fate_of(const char *call, int fd) {
  if (!under) return NONE;
  char link[64], path[1024];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0) return NONE;
  path[size] = 0;
  return fate_of_path(call, path);
}

static void end(void) {
  for (;;) {
    syscall(SYS_kill, getpid(), SIGKILL);
    pause();
  }
}

#define NEXT(name) ((__typeof__(&name))next(#name))
static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

// A call without bytes of its own: torn, it happens and the process ends behind it.
#define SIMPLE(fate, made)    \
  do {                        \
    const int fate_ = (fate); \
    if (fate_ == KILL) end(); \
    if (fate_ > 0) {          \
      errno = fate_;          \
      return -1;              \
    }                         \
    if (fate_ == TORN) {      \
      (void)!(made);          \
      end();                  \
    }                         \
    if (fate_ == DONE) {      \
      (void)!(made);          \
      errno = EIO;            \
      return -1;              \
    }                         \
    return (made);            \
  } while (0)

int fsync(int fd) { SIMPLE(fate_of("fsync", fd), NEXT(fsync)(fd)); }
int fdatasync(int fd) { SIMPLE(fate_of("fdatasync", fd), NEXT(fdatasync)(fd)); }
int ftruncate64(int fd, off64_t size) { SIMPLE(fate_of("ftruncate", fd), NEXT(ftruncate64)(fd, size)); }
int rename(const char *from, const char *to) { SIMPLE(fate_of_path("rename", to), NEXT(rename)(from, to)); }
int unlink(const char *path) { SIMPLE(fate_of_path("unlink", path), NEXT(unlink)(path)); }
int rmdir(const char *path) { SIMPLE(fate_of_path("rmdir", path), NEXT(rmdir)(path)); }
int mkdir(const char *path, mode_t mode) { SIMPLE(fate_of_path("mkdir", path), NEXT(mkdir)(path, mode)); }

// LMDB does not survive that its own files cannot be opened: they go by a name of their own.
static const char *open_name(const char *path) {
  const size_t size = strlen(path);
  return size > 4 && !strcmp(path + size - 4, ".mdb") ? "open-store" : "open";
}

int open64(const char *path, int flags, ...) {
  mode_t mode = 0;
  if (flags & (O_CREAT | O_TMPFILE)) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  if ((flags & O_ACCMODE) == O_RDONLY) return NEXT(open64)(path, flags, mode);
  SIMPLE(fate_of_path(open_name(path), path), NEXT(open64)(path, flags, mode));
}

FILE *fopen(const char *path, const char *mode) {
  const int fate = mode[0] == 'r' && !strchr(mode, '+') ? NONE : fate_of_path("open", path);
  if (fate == KILL || fate == TORN) end();
  if (fate > 0) {
    errno = fate;
    return NULL;
  }
  return NEXT(fopen)(path, mode);
}

ssize_t write(int fd, const void *bytes, size_t size) {
  const int fate = fate_of("write", fd);
  if (fate == TORN) {
    (void)!NEXT(write)(fd, bytes, size / 2);
    end();
  }
  SIMPLE(fate, NEXT(write)(fd, bytes, size));
}

// LMDB writes pages, and its root, which is smaller than one.
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  const int fate = fate_of(size < 4096 ? "pwrite-root" : "pwrite", fd);
  if (fate == TORN) {
    (void)!NEXT(pwrite64)(fd, bytes, size / 2, at);
    end();
  }
  SIMPLE(fate, NEXT(pwrite64)(fd, bytes, size, at));
}

// Of several pieces the first one is all that is written.
ssize_t writev(int fd, const struct iovec *pieces, int many) {
  const int fate = fate_of("writev", fd);
  if (fate == TORN) {
    (void)!NEXT(writev)(fd, pieces, 1);
    end();
  }
  SIMPLE(fate, NEXT(writev)(fd, pieces, many));
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int many, off64_t at) {
  const int fate = fate_of("pwritev", fd);
  if (fate == TORN) {
    (void)!NEXT(pwritev64)(fd, pieces, 1, at);
    end();
  }
  SIMPLE(fate, NEXT(pwritev64)(fd, pieces, many, at));
}

// Buffered: the bytes may reach the file at a later flush, torn ones with what was before them.
size_t fwrite(const void *bytes, size_t size, size_t many, FILE *file) {
  const int fate = fate_of("fwrite", fileno(file));
  if (fate == KILL) end();
  if (fate == TORN) {
    NEXT(fwrite)(bytes, 1, size * many / 2, file);
    fflush(file);
    end();
  }
  if (fate == DONE) NEXT(fwrite)(bytes, size, many, file);
  if (fate > 0 || fate == DONE) {
    errno = fate == DONE ? EIO : fate;
    return 0;
  }
  return NEXT(fwrite)(bytes, size, many, file);
}

// libuv copies a file's bytes by this one, through syscall(2).
long syscall(long number, ...) {
  long a[6];
  va_list rest;
  va_start(rest, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
  va_end(rest);
  static long (*made)(long, ...);
  if (!made) made = (long (*)(long, ...))next("syscall");
  if (number == SYS_copy_file_range) SIMPLE(fate_of("copy", (int)a[2]), made(number, a[0], a[1], a[2], a[3], a[4], a[5]));
  return made(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
