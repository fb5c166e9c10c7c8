// fault_shim.c: an LD_PRELOAD library that makes reads, writes and syncs of some files fail.
//
// The file $TORTURE_FAULTS holds a `struct control`, mapped and shared: errors.py arms faults there
// while the program runs. A failed write writes nothing. A failed sync loses the writes since the
// last sync of the file, as a kernel does that marks failed pages clean and drops them: the old
// bytes come back. Only positioned calls are seen, and none that bypasses libc (io_uring).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kWrite = 1, kSync = 2, kRead = 4, kGrow = 8 };  // calls
enum { kNone = 0, kShort = -1, kSlow = -2 };           // actions; above 0: an errno

struct control {
  int64_t calls;  // mask of calls that fail
  int64_t action;
  int64_t after;   // matching calls that succeed first
  int64_t times;   // faults until the calls succeed again
  int64_t hits;    // faults so far
  char path[232];  // part of the file's path
};

struct lost_write {
  struct lost_write* earlier;
  dev_t device;
  ino_t file;
  off_t offset;
  size_t size;
  char old[];
};

static struct control* control;
static struct lost_write* unsynced;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
  const char* path = getenv("TORTURE_FAULTS");
  const int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void* mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) control = mapped;
  close(fd);
}

static int is_watched(int fd) {
  char link[64], path[4096];
  if (control == NULL || control->path[0] == 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return strstr(path, control->path) != NULL;
}

/// The action of this call, kNone for none.
static int64_t fault(int fd, int64_t call) {
  if (control == NULL || (control->calls & call) == 0 || !is_watched(fd)) return kNone;
  pthread_mutex_lock(&mutex);
  int64_t action = kNone;
  if (control->after > 0) {
    --control->after;
  } else if (control->times > 0) {
    --control->times;
    ++control->hits;
    action = control->action;
  }
  pthread_mutex_unlock(&mutex);
  if (action == kSlow) usleep(20000);
  return action;
}

/// A descriptor of the same file, without O_DIRECT and O_APPEND.
static int plain(int fd) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  return open(link, O_RDWR | O_CLOEXEC);
}

/// Keeps the bytes that a write replaces, zeros after the end of the file.
static void keep_old(int fd, off_t offset, size_t size) {
  struct stat status;
  if (!is_watched(fd) || fstat(fd, &status) != 0) return;
  const int file = plain(fd);
  struct lost_write* kept = calloc(1, sizeof *kept + size);
  if (file >= 0 && kept != NULL && REAL(pread64)(file, kept->old, size, offset) >= 0) {
    pthread_mutex_lock(&mutex);
    *kept = (struct lost_write){unsynced, status.st_dev, status.st_ino, offset, size};
    unsynced = kept;
    pthread_mutex_unlock(&mutex);
  } else {
    free(kept);
  }
  if (file >= 0) close(file);
}

/// Forgets the unsynced writes of a file; if `lose`, brings the old bytes back.
static void end_unsynced(int fd, int lose) {
  struct stat status;
  if (!is_watched(fd) || fstat(fd, &status) != 0) return;
  const int file = plain(fd);
  pthread_mutex_lock(&mutex);
  for (struct lost_write** at = &unsynced; *at != NULL;) {
    struct lost_write* kept = *at;
    if (kept->device != status.st_dev || kept->file != status.st_ino) {
      at = &kept->earlier;
      continue;
    }
    if (lose && REAL(pwrite64)(file, kept->old, kept->size, kept->offset) < 0) abort();
    *at = kept->earlier;
    free(kept);
  }
  pthread_mutex_unlock(&mutex);
  if (file >= 0) close(file);
}

/// -1 with errno if the call fails, otherwise 0.
static int refused(int fd, int64_t call) {
  const int64_t action = fault(fd, call);
  if (action > 0) errno = (int)action;
  return action > 0 ? -1 : 0;
}

static ssize_t faulty_write(int fd, const void* data, size_t size, off_t offset) {
  const int64_t action = fault(fd, kWrite);
  if (action > 0) {
    errno = (int)action;
    return -1;
  }
  if (action == kShort && size > 1) size /= 2;
  keep_old(fd, offset, size);
  return REAL(pwrite64)(fd, data, size, offset);
}

/// Writes the first part only: a short write, which callers repeat.
static ssize_t faulty_writev(int fd, const struct iovec* parts, int count, off_t offset) {
  return count == 0 ? 0 : faulty_write(fd, parts->iov_base, parts->iov_len, offset);
}

static ssize_t faulty_read(int fd, void* data, size_t size, off_t offset) {
  const int64_t action = fault(fd, kRead);
  if (action > 0) {
    errno = (int)action;
    return -1;
  }
  if (action == kShort && size > 4096) size = (size / 2 + 4095) / 4096 * 4096;  // O_DIRECT: blocks
  return REAL(pread64)(fd, data, size, offset);
}

#define SYNC(name)                              \
  int name(int fd) {                            \
    const int failed = refused(fd, kSync) != 0; \
    const int code = errno;                     \
    end_unsynced(fd, failed);                   \
    errno = code;                               \
    return failed ? -1 : REAL(name)(fd);        \
  }
SYNC(fsync)
SYNC(fdatasync)

#define IO(suffix)                                                                      \
  ssize_t pwrite##suffix(int fd, const void* data, size_t size, off_t offset) {         \
    return faulty_write(fd, data, size, offset);                                        \
  }                                                                                     \
  ssize_t pwritev##suffix(int fd, const struct iovec* parts, int count, off_t offset) { \
    return faulty_writev(fd, parts, count, offset);                                     \
  }                                                                                     \
  ssize_t pread##suffix(int fd, void* data, size_t size, off_t offset) {                \
    return faulty_read(fd, data, size, offset);                                         \
  }                                                                                     \
  int fallocate##suffix(int fd, int mode, off_t offset, off_t size) {                   \
    return refused(fd, kGrow) != 0 ? -1 : REAL(fallocate64)(fd, mode, offset, size);    \
  }                                                                                     \
  int ftruncate##suffix(int fd, off_t size) {                                           \
    return refused(fd, kGrow) != 0 ? -1 : REAL(ftruncate64)(fd, size);                  \
  }
IO()
IO(64)
