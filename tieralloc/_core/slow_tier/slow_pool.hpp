// slow_pool.hpp: the slow tier, which has every row.
//
// A slow pool is a range of bytes that contains tables. A row is the range `offset .. offset +
// length`.
//
// Concurrency: any number of threads read. The caller serialises writes of overlapping ranges, and
// ensures that no reader needs a row that is being written (store.hpp).
//
// A pool in memory is read in place: lookups load its rows from their addresses instead of calling
// `read`.
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

/// One read: `length` bytes at `offset` into `buffer`, all three multiples of the pool's block.
struct ReadOp {
  static constexpr std::int32_t kPending = 1;

  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  std::byte* buffer = nullptr;
  std::uint64_t done_ns = 0;  ///< time of completion, valid once `result` is not kPending
  /// kPending, then 0 for success, or minus an errno (-ENODATA: the pool ended before the range).
  std::atomic<std::int32_t> result{kPending};

  void finish(std::int32_t outcome, std::uint64_t now) {
    done_ns = now;
    result.store(outcome, std::memory_order_release);
    result.notify_all();
  }

  /// Waits for completion; returns `result`.
  std::int32_t wait() const {
    result.wait(kPending, std::memory_order_acquire);
    return result.load(std::memory_order_acquire);
  }
};

/// Notified of a batch's completions while it is read.
class ReadListener {
 public:
  virtual ~ReadListener() = default;

  /// Called in the reading thread, while the device processes other operations: the listener can
  /// use the complete ones.
  virtual void on_completions() noexcept = 0;
};

struct TableLayout {
  std::string name;
  std::uint64_t rows = 0;
  std::uint32_t dim = 0;
  DType dtype = DType::float32;
  std::uint32_t stride = 0;  ///< bytes from one row to the next, whole cache lines
  std::uint64_t offset = 0;  ///< of row 0; in a pool that is read in place, its address
};

constexpr std::uint32_t stride_of(std::uint32_t dim, DType dtype) {
  return static_cast<std::uint32_t>(round_up(dim * size_of(dtype), kCacheLine));
}

/// Properties of a pool in memory.
struct MemoryTraits {
  Placement placement;
  std::uint64_t huge_page_bytes = 0;
  double extra_ns = 0;   ///< per cache line; above 0: emulated
  unsigned overlap = 1;  ///< cache lines whose extra latencies overlap
};

class SlowPool {
 public:
  virtual ~SlowPool() = default;

  virtual std::vector<TableLayout> tables() const = 0;

  /// Adds a table of zeros. A failure changes nothing. Returns the layout with its offset.
  virtual TableLayout add_table(TableLayout layout) = 0;

  /// Reads a batch; returns when every operation is complete.
  virtual void read(std::span<ReadOp> ops, ReadListener& listener) = 0;

  /// Throws SystemFailure.
  virtual void write(std::uint64_t offset, std::span<const std::byte> bytes) = 0;

  /// Returns when all writes are durable. Throws SystemFailure.
  virtual void sync() = 0;

  /// Drops earlier writes from the kernel's page cache.
  virtual void drop_caches() {}

  /// Throws SystemFailure if the pool's file does not have its path any more: synced writes are not
  /// there then.
  virtual void check_present() const {}

  virtual std::size_t block() const = 0;    ///< minimum of bytes per read
  virtual std::string kind() const = 0;     ///< "file", …
  virtual std::string path() const = 0;     ///< for messages and stats()
  virtual std::string engine() const = 0;   ///< method of reads
  virtual std::uint64_t bytes() const = 0;  ///< size of the pool
  virtual std::uint64_t cached_bytes()
      const = 0;  ///< DRAM that the kernel's page cache holds of it

  /// Whether rows are read in place. Then an offset is an address, valid as long as the pool.
  virtual bool in_place() const { return false; }
  /// Waits the emulated extra latency of reading `lines` cache lines in place.
  virtual void emulate_latency(std::size_t lines) const { (void)lines; }
  virtual MemoryTraits memory() const { return {}; }
  /// Memory like the pool's, for measurements of a pool that is read in place.
  virtual Region sample(std::size_t bytes) const { return Region(bytes, "sample"); }
};

}  // namespace tieralloc
