// faults.hpp: system calls and allocations that fail when a test says so.
//
// The linker replaces every call of these functions in the core and in the tests by one of
// faults.cpp (--wrap), which makes the original call unless a Fault is set. Calls inside libraries
// are unchanged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace faults {

enum class Call {
  allocate,  ///< operator new: std::bad_alloc
  allocate_elsewhere,
  map,    ///< mmap
  write,  ///< pwrite
  sync,   ///< fdatasync
  sync_range,
  reserve,  ///< fallocate
  read,     ///< pread
};

/// From the `after`-th call on (0: the next), `times` calls fail with `error`. `allocate` and `map`
/// fail in the thread that made the fault, `allocate_elsewhere` in all others. One fault per call.
class Fault {
 public:
  Fault(Call call, int error, std::size_t after = 0, std::size_t times = ~std::size_t{0});
  ~Fault();
  Fault(const Fault&) = delete;

  /// How many calls have failed.
  std::size_t struck() const;

 private:
  Call call_;
};

/// While it exists, `hook` is called with the path before fopen opens a file.
class BeforeFopen {
 public:
  explicit BeforeFopen(std::function<void(const std::string& path)> hook);
  ~BeforeFopen();
  BeforeFopen(const BeforeFopen&) = delete;
};

/// While it exists, `hook` is called with the path before a file is opened. An errno that it
/// returns fails the open.
class BeforeOpen {
 public:
  explicit BeforeOpen(std::function<int(const std::string& path)> hook);
  ~BeforeOpen();
  BeforeOpen(const BeforeOpen&) = delete;
};

/// While it exists, statx returns this alignment of direct I/O.
class DirectAlignment {
 public:
  explicit DirectAlignment(std::uint32_t bytes);
  ~DirectAlignment();
  DirectAlignment(const DirectAlignment&) = delete;
};

/// While it exists, each pwrite writes half of its bytes, calls `between` with its offset, and
/// writes the other half. A pwrite of `between` is unchanged.
class SplitWrites {
 public:
  explicit SplitWrites(std::function<void(std::uint64_t offset)> between);
  ~SplitWrites();
  SplitWrites(const SplitWrites&) = delete;
};

/// Bytes that this thread has asked of operator new so far, and of the kernel as anonymous memory.
std::size_t allocated_bytes();

/// Bytes that this thread has passed to sized operator delete or unmapped.
std::size_t freed_bytes();

}  // namespace faults
