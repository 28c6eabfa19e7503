/*
 * Preloaded into one program (ld.so(8), LD_PRELOAD), it makes the Nth call of one kind fail with an error of choice, or counts the calls. Calls are
 * counted over all threads, which strace(1) --inject cannot do; programs that are started are left alone.
 *
 *   FAIL_CALL   open, read, write, fsync, rename, link, mkdir, remove, truncate, pipe, fork, exec
 *   FAIL_NTH    number of the call, from 1; 0 lets all succeed
 *   FAIL_ERRNO  the error as a number
 *   FAIL_BELOW  paths, separated by ':': only what they begin is counted (fork, exec and pipe from the first file on)
 *   FAIL_LOG    a line for every call that was counted, or that failed: what it was about
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 65536
/*
 * The function of the C library, looked up before there are threads: dlsym(3) takes a lock, and a child that fork(2) makes while another thread has it
 * would wait for ever in its first call, and its parent for the child.
 */
#define NEXT(name)                      \
  static __typeof__(&name) next_##name; \
  __attribute__((constructor)) static void find_##name(void) { next_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name); }

static char call[32], below[4096], log_path[1024];
static long nth;
static int failure = EIO;
static atomic_long count;
static atomic_char counted[FILES];

__attribute__((constructor)) static void start(void) {
  const char *text;
  if ((text = getenv("FAIL_CALL"))) snprintf(call, sizeof call, "%s", text);
  if ((text = getenv("FAIL_NTH"))) nth = atol(text);
  if ((text = getenv("FAIL_ERRNO"))) failure = atoi(text);
  if ((text = getenv("FAIL_BELOW"))) snprintf(below, sizeof below, "%s", text);
  if ((text = getenv("FAIL_LOG"))) snprintf(log_path, sizeof log_path, "%s", text);
  unsetenv("LD_PRELOAD");
}

/* Not through our own calls. */
static void note(const char *about) {
  int saved = errno;
  char line[1200];
  int length = snprintf(line, sizeof line, "%s %s\n", call, about);
  int file = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file >= 0) {
    syscall(SYS_write, file, line, (size_t)length);
    syscall(SYS_close, file);
  }
  errno = saved;
}

static int is(const char *name) { return strcmp(call, name) == 0; }

static int number_fails(long number, const char *about) {
  if (nth != 0 && number != nth) return 0;
  note(about);
  if (nth == 0) return 0;
  errno = failure;
  return 1;
}

static int fails(const char *about) { return number_fails(atomic_fetch_add(&count, 1) + 1, about); }

/* What comes before is the start of Node itself. */
static atomic_char is_started;

/* Trees are removed through open directories: /proc/self/fd/7/name stands for what the kernel calls the directory, and the name. */
static const char *named(const char *path, char *whole, size_t size) {
  static const char fds[] = "/proc/self/fd/";
  if (strncmp(path, fds, sizeof fds - 1) != 0) return path;
  const char *name = strchr(path + sizeof fds - 1, '/');
  if (name == NULL) return path;
  char link[64];
  snprintf(link, sizeof link, "%.*s", (int)(name - path), path);
  ssize_t length = syscall(SYS_readlink, link, whole, size - 1);
  if (length < 0) return path;
  snprintf(whole + length, size - (size_t)length, "%s", name);
  return whole;
}

static int is_below(const char *given) {
  char whole[4096];
  const char *path = named(given, whole, sizeof whole);
  for (const char *at = below; *at != 0;) {
    const char *end = strchrnul(at, ':');
    size_t length = (size_t)(end - at);
    if (length > 0 && strncmp(path, at, length) == 0) {
      is_started = 1;
      return 1;
    }
    at = *end == 0 ? end : end + 1;
  }
  return 0;
}

static int path_fails(const char *name, const char *path) { return is(name) && is_below(path) && fails(path); }

static int file_fails(const char *name, int file) {
  if (!is(name) || file < 0 || file >= FILES || !counted[file]) return 0;
  char link[64], path[1024];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = syscall(SYS_readlink, link, path, sizeof path - 1);
  path[length < 0 ? 0 : length] = 0;
  /* libuv closes by the system call itself: its number can be that of a pipe by now, which never fails so. */
  return is_below(path) && fails(path);
}

static int opened(int file, const char *path) {
  if (file >= 0 && file < FILES) counted[file] = (char)is_below(path);
  return file;
}

#define OPEN(name)                                        \
  NEXT(name)                                              \
  int name(const char *path, int flags, ...) {            \
    va_list rest;                                         \
    va_start(rest, flags);                                \
    mode_t mode = va_arg(rest, mode_t);                   \
    va_end(rest);                                         \
    if (path_fails("open", path)) return -1;              \
    return opened(next_##name(path, flags, mode), path);  \
  }
OPEN(open)
OPEN(open64)

NEXT(close)
int close(int file) {
  if (file >= 0 && file < FILES) counted[file] = 0;
  return next_close(file);
}

#define ON_FILE(type, name, kind, parameters, arguments) \
  NEXT(name)                                             \
  type name parameters {                                 \
    if (file_fails(kind, file)) return -1;               \
    return next_##name arguments;                        \
  }
ON_FILE(ssize_t, read, "read", (int file, void *to, size_t size), (file, to, size))
ON_FILE(ssize_t, pread64, "read", (int file, void *to, size_t size, off64_t at), (file, to, size, at))
ON_FILE(ssize_t, readv, "read", (int file, const struct iovec *to, int size), (file, to, size))
ON_FILE(ssize_t, preadv64, "read", (int file, const struct iovec *to, int size, off64_t at), (file, to, size, at))
ON_FILE(ssize_t, write, "write", (int file, const void *from, size_t size), (file, from, size))
ON_FILE(ssize_t, pwrite64, "write", (int file, const void *from, size_t size, off64_t at), (file, from, size, at))
ON_FILE(ssize_t, writev, "write", (int file, const struct iovec *from, int size), (file, from, size))
ON_FILE(ssize_t, pwritev64, "write", (int file, const struct iovec *from, int size, off64_t at), (file, from, size, at))
ON_FILE(int, fsync, "fsync", (int file), (file))
ON_FILE(int, fdatasync, "fsync", (int file), (file))
ON_FILE(int, ftruncate64, "truncate", (int file, off64_t size), (file, size))

#define ON_PATH(name, kind, parameters, path, arguments) \
  NEXT(name)                                             \
  int name parameters {                                  \
    if (path_fails(kind, path)) return -1;               \
    return next_##name arguments;                        \
  }
ON_PATH(rename, "rename", (const char *from, const char *to), to, (from, to))
ON_PATH(link, "link", (const char *from, const char *to), to, (from, to))
ON_PATH(symlink, "link", (const char *target, const char *path), path, (target, path))
ON_PATH(mkdir, "mkdir", (const char *path, mode_t mode), path, (path, mode))
ON_PATH(unlink, "remove", (const char *path), path, (path))
ON_PATH(rmdir, "remove", (const char *path), path, (path))

NEXT(socketpair)
int socketpair(int domain, int type, int protocol, int files[2]) {
  if (is_started && is("pipe") && fails("socketpair")) return -1;
  return next_socketpair(domain, type, protocol, files);
}

NEXT(pipe2)
int pipe2(int files[2], int flags) {
  if (is_started && is("pipe") && fails("pipe")) return -1;
  return next_pipe2(files, flags);
}

/* A child gets the number of its fork(2), by which its exec(3) is known. */
static long forks;

NEXT(fork)
pid_t fork(void) {
  if (is("fork") && fails("fork")) return -1;
  forks++;
  return next_fork();
}

NEXT(execvp)
int execvp(const char *program, char *const arguments[]) {
  if (is("exec") && number_fails(forks, program)) return -1;
  return next_execvp(program, arguments);
}
