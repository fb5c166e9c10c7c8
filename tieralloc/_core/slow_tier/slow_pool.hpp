// slow_pool.hpp: the slow tier, home of every row.
//
// A slow pool is a range of bytes in which tables have been given room; a row is `offset .. offset
// + length` of it. Rows are read in batches in any number of threads; writes of overlapping ranges
// are serialised by the caller, who also makes sure that no reader needs a row that is being
// written (store.hpp says how).
//
// A pool in memory is read in place: lookups load its rows where they lie, and nobody calls `read`.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "base/limits.hpp"
#include "base/memory.hpp"
#include "base/numa/placement.hpp"
#include "base/types.hpp"

namespace tieralloc {

/// One piece to be read: `length` bytes at `offset` into `buffer`, all three multiples of the
/// pool's block.
struct ReadOp {
  static constexpr std::int32_t kPending = 1;

  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  std::byte* buffer = nullptr;
  std::uint64_t done_ns = 0;  ///< when it ended, valid once `result` is not kPending
  /// kPending, then 0 where all of it was read, else minus an errno (-ENODATA: the pool ended too
  /// early).
  std::atomic<std::int32_t> result{kPending};

  void finish(std::int32_t outcome, std::uint64_t now) {
    done_ns = now;
    result.store(outcome, std::memory_order_release);
    result.notify_all();
  }

  /// Waits until it has ended; returns `result`.
  std::int32_t wait() const {
    result.wait(kPending, std::memory_order_acquire);
    return result.load(std::memory_order_acquire);
  }
};

/// Told of a batch's progress while it is read.
class ReadListener {
 public:
  virtual ~ReadListener() = default;

  /// In the thread that reads, while the device is busy with other operations: time to use what has
  /// come. Does not throw.
  virtual void on_completions() noexcept = 0;
};

struct TableLayout {
  std::string name;
  std::uint64_t rows = 0;
  std::uint32_t dim = 0;
  DType dtype = DType::float32;
  std::uint32_t stride = 0;  ///< bytes from a row to the next, whole cache lines
  std::uint64_t offset = 0;  ///< of row 0; in a pool that is read in place, its address
};

constexpr std::uint32_t stride_of(std::uint32_t dim, DType dtype) {
  return static_cast<std::uint32_t>(round_up(dim * size_of(dtype), kCacheLine));
}

/// What there is to say of a pool in memory.
struct MemoryTraits {
  Placement placement;
  std::uint64_t huge_page_bytes = 0;
  double extra_ns = 0;   ///< a cache line; above 0: emulated
  unsigned overlap = 1;  ///< cache lines whose extra latencies pass at the same time
};

class SlowPool {
 public:
  virtual ~SlowPool() = default;

  virtual std::vector<TableLayout> tables() const = 0;

  /// Makes room for a table whose rows all read as zero and writes it into the pool's directory. On
  /// failure the pool is as it was. Returns the layout with its offset.
  virtual TableLayout add_table(TableLayout layout) = 0;

  /// Reads a batch and returns when every operation has its result.
  virtual void read(std::span<ReadOp> ops, ReadListener& listener) = 0;

  /// Throws SystemFailure.
  virtual void write(std::uint64_t offset, std::span<const std::byte> bytes) = 0;

  /// Returns when all that was written would survive a power failure. Throws SystemFailure.
  virtual void sync() = 0;

  /// Lets go of memory that earlier writes still take in caches below this pool.
  virtual void drop_caches() {}

  virtual std::size_t block() const = 0;    ///< bytes that the device reads at least
  virtual std::string kind() const = 0;     ///< "file", …
  virtual std::string path() const = 0;     ///< for messages and stats()
  virtual std::string engine() const = 0;   ///< how reads are made
  virtual std::uint64_t bytes() const = 0;  ///< size of the pool
  virtual std::uint64_t cached_bytes()
      const = 0;  ///< DRAM that the kernel's page cache holds of it

  /// Whether rows are read in place: an offset is an address, valid as long as the pool is.
  virtual bool in_place() const { return false; }
  /// Lets pass what reading so many cache lines in place takes beyond the loads themselves.
  virtual void emulate_latency(std::size_t lines) const { (void)lines; }
  virtual MemoryTraits memory() const { return {}; }
  /// Memory such as the pool's own, to try out what reading it costs; of a pool that is read in
  /// place.
  virtual Region sample(std::size_t bytes) const { return Region(bytes, "sample"); }
};

}  // namespace tieralloc
