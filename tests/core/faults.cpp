// faults.cpp: the functions that the linker puts before the real ones.
#include "faults.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

namespace faults {
namespace {

constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();

struct State {
  std::atomic<bool> armed{false};
  std::atomic<std::int64_t> countdown{0};
  std::atomic<std::size_t> left{0};
  std::atomic<std::size_t> struck{0};
  std::atomic<int> error{0};

  /// The error to fail with, or 0.
  int strike() {
    if (!armed.load(std::memory_order_acquire)) return 0;
    if (countdown.fetch_sub(1) > 0) return 0;
    std::size_t times = left.load();
    while (times > 0 && !left.compare_exchange_weak(times, times == kNever ? kNever : times - 1)) {
    }
    if (times == 0) return 0;
    struck.fetch_add(1);
    return error;
  }
};

State shared[8];
thread_local State own[8];
thread_local bool here = false;  ///< whether this thread has made an allocate_elsewhere fault
std::function<void(const std::string&)> fopen_hook;
std::function<int(const std::string&)> open_hook;
std::atomic<std::uint32_t> direct_alignment{0};
std::function<void(std::uint64_t)> write_hook;
thread_local bool is_splitting = false;
thread_local std::size_t allocated = 0;
thread_local std::size_t freed = 0;

State& state_of(Call call) {
  const bool by_thread = call == Call::allocate || call == Call::map;
  return (by_thread ? own : shared)[static_cast<int>(call)];
}

/// Throws if the allocation must fail.
void allocate(std::size_t size) {
  if (own[static_cast<int>(Call::allocate)].strike() != 0) throw std::bad_alloc();
  if (!here && shared[static_cast<int>(Call::allocate_elsewhere)].strike() != 0) {
    throw std::bad_alloc();
  }
  allocated += size;
}

}  // namespace

Fault::Fault(Call call, int error, std::size_t after, std::size_t times) : call_(call) {
  State& state = state_of(call);
  here = call == Call::allocate_elsewhere;
  state.error = error;
  state.countdown = static_cast<std::int64_t>(after);
  state.left = times;
  state.struck = 0;
  state.armed.store(true, std::memory_order_release);
}

Fault::~Fault() {
  state_of(call_).armed = false;
}

std::size_t Fault::struck() const {
  return state_of(call_).struck;
}

BeforeFopen::BeforeFopen(std::function<void(const std::string&)> hook) {
  fopen_hook = std::move(hook);
}

BeforeFopen::~BeforeFopen() {
  fopen_hook = nullptr;
}

BeforeOpen::BeforeOpen(std::function<int(const std::string&)> hook) {
  open_hook = std::move(hook);
}

BeforeOpen::~BeforeOpen() {
  open_hook = nullptr;
}

DirectAlignment::DirectAlignment(std::uint32_t bytes) {
  direct_alignment = bytes;
}

DirectAlignment::~DirectAlignment() {
  direct_alignment = 0;
}

SplitWrites::SplitWrites(std::function<void(std::uint64_t)> between) {
  write_hook = std::move(between);
}

SplitWrites::~SplitWrites() {
  write_hook = nullptr;
}

std::size_t allocated_bytes() {
  return allocated;
}

std::size_t freed_bytes() {
  return freed;
}

}  // namespace faults

using faults::Call;

extern "C" {

void* __real__Znwm(std::size_t size);
void* __real__Znam(std::size_t size);
void __real__ZdlPvm(void* memory, std::size_t size);
void* __real__ZnwmSt11align_val_t(std::size_t size, std::align_val_t alignment);
void* __real_mmap(void* address, std::size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void* address, std::size_t size);
ssize_t __real_pwrite(int fd, const void* data, std::size_t size, off_t offset);
int __real_fdatasync(int fd);
int __real_sync_file_range(int fd, off_t offset, off_t size, unsigned flags);
int __real_fallocate(int fd, int mode, off_t offset, off_t size);

ssize_t __real_pread(int fd, void* data, std::size_t size, off_t offset);
int __real_open(const char* path, int flags, ...);
int __real_statx(int fd, const char* path, int flags, unsigned mask, struct statx* status);

std::FILE* __real_fopen(const char* path, const char* mode);

std::FILE* __wrap_fopen(const char* path, const char* mode) {
  if (faults::fopen_hook) faults::fopen_hook(path);
  return __real_fopen(path, mode);
}

void* __wrap__Znwm(std::size_t size) {
  faults::allocate(size);
  return __real__Znwm(size);
}

void* __wrap__Znam(std::size_t size) {
  faults::allocate(size);
  return __real__Znam(size);
}

void __wrap__ZdlPvm(void* memory, std::size_t size) {
  faults::freed += size;
  __real__ZdlPvm(memory, size);
}

/// Counted; never fails.
void* __wrap__ZnwmSt11align_val_t(std::size_t size, std::align_val_t alignment) {
  faults::allocated += size;
  return __real__ZnwmSt11align_val_t(size, alignment);
}

void* __wrap_mmap(void* address, std::size_t size, int protection, int flags, int fd,
                  off_t offset) {
  const int error = faults::state_of(Call::map).strike();
  if (error == 0) {
    if ((flags & MAP_ANONYMOUS) != 0) faults::allocated += size;
    return __real_mmap(address, size, protection, flags, fd, offset);
  }
  errno = error;
  return reinterpret_cast<void*>(-1);
}

int __wrap_munmap(void* address, std::size_t size) {
  faults::freed += size;
  return __real_munmap(address, size);
}

ssize_t __wrap_pwrite(int fd, const void* data, std::size_t size, off_t offset) {
  const int error = faults::state_of(Call::write).strike();
  if (error == 0 && faults::write_hook && !faults::is_splitting) {
    const ssize_t put = __real_pwrite(fd, data, size / 2, offset);
    if (put != static_cast<ssize_t>(size / 2)) return put;
    faults::is_splitting = true;
    faults::write_hook(static_cast<std::uint64_t>(offset));
    faults::is_splitting = false;
    const ssize_t rest =
        __real_pwrite(fd, static_cast<const char*>(data) + put, size - size / 2, offset + put);
    return rest < 0 ? rest : put + rest;
  }
  if (error == 0) return __real_pwrite(fd, data, size, offset);
  errno = error;
  return -1;
}

int __wrap_fdatasync(int fd) {
  const int error = faults::state_of(Call::sync).strike();
  if (error == 0) return __real_fdatasync(fd);
  errno = error;
  return -1;
}

int __wrap_sync_file_range(int fd, off_t offset, off_t size, unsigned flags) {
  const int error = faults::state_of(Call::sync_range).strike();
  if (error == 0) return __real_sync_file_range(fd, offset, size, flags);
  errno = error;
  return -1;
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t size) {
  const int error = faults::state_of(Call::reserve).strike();
  if (error == 0) return __real_fallocate(fd, mode, offset, size);
  errno = error;
  return -1;
}

ssize_t __wrap_pread(int fd, void* data, std::size_t size, off_t offset) {
  const int error = faults::state_of(Call::read).strike();
  if (error == 0) return __real_pread(fd, data, size, offset);
  errno = error;
  return -1;
}

int __wrap_open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const bool makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  const mode_t mode = makes ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  const int error = faults::open_hook ? faults::open_hook(path) : 0;
  if (error == 0) return __real_open(path, flags, mode);
  errno = error;
  return -1;
}

int __wrap_statx(int fd, const char* path, int flags, unsigned mask, struct statx* status) {
  const int result = __real_statx(fd, path, flags, mask, status);
  const std::uint32_t bytes = faults::direct_alignment;
  if (result != 0 || bytes == 0) return result;
  status->stx_mask = (status->stx_mask | 0x2000) & ~0x20000u;  // STATX_DIOALIGN alone
  std::memcpy(reinterpret_cast<std::byte*>(status) + 0x98, &bytes, sizeof bytes);
  std::memcpy(reinterpret_cast<std::byte*>(status) + 0x9C, &bytes, sizeof bytes);
  return 0;
}

}  // extern "C"
