// faults.hpp: system calls and allocations that fail when a test says so.
//
// The linker turns every call of these functions in the core and in the tests into one of
// faults.cpp (--wrap), which lets it through unless a Fault is set. What libraries call inside
// themselves is not touched.
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

/// From the `after`-th call on (0: the next), `times` of them fail with `error`. Of `allocate` and
/// `map` only those of the thread that made the fault, of `allocate_elsewhere` those of the others.
/// One fault at a time a call.
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

/// For as long as it lives: what is called with the path before a file is opened by fopen.
class BeforeFopen {
 public:
  explicit BeforeFopen(std::function<void(const std::string& path)> hook);
  ~BeforeFopen();
  BeforeFopen(const BeforeFopen&) = delete;
};

/// For as long as it lives: called with the path before a file is opened. An errno that it returns
/// fails the open.
class BeforeOpen {
 public:
  explicit BeforeOpen(std::function<int(const std::string& path)> hook);
  ~BeforeOpen();
  BeforeOpen(const BeforeOpen&) = delete;
};

/// For as long as it lives, statx states this alignment of direct I/O.
class DirectAlignment {
 public:
  explicit DirectAlignment(std::uint32_t bytes);
  ~DirectAlignment();
  DirectAlignment(const DirectAlignment&) = delete;
};

/// For as long as it lives: each pwrite writes half of its bytes, calls `between` with its offset,
/// and writes the other half. Not a pwrite that `between` makes.
class SplitWrites {
 public:
  explicit SplitWrites(std::function<void(std::uint64_t offset)> between);
  ~SplitWrites();
  SplitWrites(const SplitWrites&) = delete;
};

/// Bytes that this thread has asked of operator new so far, and of the kernel as anonymous memory.
std::size_t allocated_bytes();

/// Bytes that this thread has given back to operator delete, where their number was said.
std::size_t freed_bytes();

}  // namespace faults
