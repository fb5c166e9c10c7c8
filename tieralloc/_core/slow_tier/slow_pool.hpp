// slow_pool.hpp: the slow tier, which has every row.
//
// A slow pool is a range of bytes that contains tables (page.hpp: the layout of their rows). The
// latest value of an updated row may be elsewhere for a while, in the redo log of a file: a reader
// asks `find_updated` first, then reads the page.
//
// Concurrency: any number of threads read. One thread at a time writes rows or changes tables
// (store.hpp). A page that is written while it is read fails its check;
// `recover_page` reads it again.
//
// A pool in memory is read in place: lookups load its rows from their addresses instead of calling
// `read`. The caller ensures that no reader needs a row that is being written.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "base/limits.hpp"
#include "base/memory.hpp"
#include "base/numa/placement.hpp"
#include "base/types.hpp"
#include "slow_tier/delta.hpp"
#include "slow_tier/page.hpp"
#include "slow_tier/row_extents.hpp"
#include "slow_tier/row_order.hpp"

namespace tieralloc {

/// One read: `length` bytes at `offset` into `buffer`, all three multiples of the pool's block.
struct ReadOp {
  static constexpr std::int32_t kPending = 1;

  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  std::uint32_t slack = 0;  ///< bytes at the end that no row needs: the pool may end before them
  std::byte* buffer = nullptr;
  std::uint64_t done_ns = 0;  ///< time of completion, valid once `result` is not kPending
  /// kPending, then 0 for success, or minus an errno (-ENODATA: the pool ended before the range;
  /// -ESTALE: it was changed by others).
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

/// For readers that wait for the whole batch.
class NoListener final : public ReadListener {
 public:
  void on_completions() noexcept override {}
};

/// Whether a table lies in the fast tier as a whole (store/tier_plan.hpp). A file keeps it.
enum class Residency : std::uint32_t { automatic, always, never };

struct TableLayout {
  std::string name;
  std::uint64_t rows = 0;
  std::uint32_t dim = 0;
  DType dtype = DType::float32;
  std::uint32_t stride = 0;  ///< bytes from one row to the next
  std::uint64_t offset = 0;  ///< of row 0; in a pool that is read in place, its address
  PageLayout pages{};        ///< set by the pool
  Residency residency = Residency::automatic;
  std::shared_ptr<const RowOrder> order{};      ///< null: every row has the place of its number
  std::shared_ptr<const RowExtents> extents{};  ///< null: all rows lie from `offset` on
  // As of `order`, which a file reads after its directory.
  std::uint64_t arranged_rows = 0;
  std::uint64_t arranged_pages = 0;
  /// DRAM of a fast tier of its own, at least; 0: it shares one. A file does not keep it.
  std::uint64_t reserved_bytes = 0;

  std::uint32_t row_bytes() const { return row_bytes_of(dim, dtype); }
  /// Elements of a row in a result of type `out`; DType::bytes: the row as it is.
  std::uint32_t columns(DType out) const { return out == DType::bytes ? row_bytes() : dim; }
  RowAddress address(TableRow row) const {
    if (extents == nullptr)
      return address_in(pages, offset, arranged_offset(), order.get(), row.value);
    const RowExtent& extent = extent_of(*extents, row);
    return pages.address(extent.offset, (row - extent.first_row).value);
  }
  std::uint64_t num_pages() const { return pages.num_pages(other_rows()) + arranged_pages; }
  /// The end of the pages.
  std::uint64_t pages_end() const { return offset + num_pages() * pages.page_bytes; }
  /// The first arranged page.
  std::uint64_t arranged_offset() const { return offset + pages.bytes(other_rows()); }
  std::uint64_t other_rows() const { return rows - arranged_rows; }
  std::uint64_t order_bytes() const { return order == nullptr ? 0 : order->bytes(); }
};

/// Whether rows lie side by side in both tiers. Their sizes are no multiples of a cache line
/// anyway: padding would take up to half of a page, and with it half of the device reads' use.
constexpr bool is_packed(DType dtype) {
  return is_quantised(dtype) || dtype == DType::bytes;
}

/// Bytes from one row to the next in a slow pool: whole cache lines, or words of packed rows.
constexpr std::uint32_t stride_of(std::uint32_t dim, DType dtype) {
  const std::uint64_t multiple = is_packed(dtype) ? sizeof(std::uint32_t) : kCacheLine;
  return static_cast<std::uint32_t>(round_up(row_bytes_of(dim, dtype), multiple));
}

/// Properties of a pool in memory.
struct MemoryTraits {
  Placement placement;
  std::uint64_t huge_page_bytes = 0;
  double extra_ns = 0;   ///< per cache line; above 0: emulated
  unsigned overlap = 1;  ///< cache lines whose extra latencies overlap
};

struct FilePlace {
  std::string path;
  std::uint64_t offset = 0;
};

/// State of updates on their way to the pages.
struct UpdateStats {
  std::uint64_t dirty_rows = 0;  ///< rows whose page lacks their latest value
  std::uint64_t log_bytes = 0;   ///< memory of the redo log
  /// Of the log: lost by a power cut, and in the kernel's page cache.
  std::uint64_t unsynced_bytes = 0;
  std::uint64_t write_backs = 0;
  std::uint64_t write_back_errors = 0;
  std::uint64_t page_errors = 0;  ///< reads of pages with a wrong checksum
  std::string write_back_error;   ///< of the last write-back or sync; empty if it succeeded
};

class SlowPool {
 public:
  virtual ~SlowPool() = default;

  virtual std::vector<TableLayout> tables() const = 0;

  /// Adds a table of zeros. A failure changes nothing. Returns the layout with its offset and
  /// pages.
  virtual TableLayout add_table(TableLayout layout) = 0;

  /// Removes a table, durably; its name is free then. Its pages stay as they are until
  /// `free_space`. A failure changes nothing. Throws SystemFailure.
  virtual void remove_table(const TableLayout& table) = 0;
  /// The layout of a table with further rows, of zeros, where it is or in a copy of its pages.
  /// The present layout counts until `grow_table`. A failure changes nothing. Throws SystemFailure
  /// and MemoryShortage.
  virtual TableLayout prepare_growth(const TableLayout& table, std::uint64_t rows) = 0;
  /// Replaces the layout of a table by a prepared one, durably. A failure changes nothing. Throws
  /// SystemFailure.
  virtual void grow_table(const TableLayout& table, const TableLayout& grown) = 0;
  /// Returns the space of a layout that no table has and no thread reads any more: later tables
  /// take it.
  virtual void free_space(const TableLayout& former) noexcept = 0;

  /// Reads a batch; returns when every operation is complete.
  virtual void read(std::span<ReadOp> ops, ReadListener& listener) = 0;

  /// Sets rows to new values, which are dense. Of a repeated row the last value counts. A failure
  /// changes nothing. Throws SystemFailure.
  virtual void update(const TableLayout& table, std::span<const TableRow> rows,
                      const std::byte* values) = 0;

  /// Returns when earlier updates are durable, if each update is to be. Throws SystemFailure.
  virtual void commit() {}

  /// Of the last delta; 0: there was none.
  virtual std::uint64_t version() const { return 0; }

  /// Begins a delta of these parts. Other writers wait until it ends. Throws std::invalid_argument
  /// for a pool without versions, SystemFailure and MemoryShortage.
  virtual std::unique_ptr<StagedDelta> begin_delta(std::span<const DeltaPart> parts) {
    (void)parts;
    throw std::invalid_argument("apply: a slow tier of kind '" + kind() +
                                "' keeps no version; expected one in a file");
  }

  /// Sets the rows from `first` on, in bulk, durably once `settle` returns. A failure of either
  /// may leave some of the rows new, none of them torn. Throws SystemFailure.
  virtual void load(const TableLayout& table, TableRow first, std::uint64_t rows,
                    const std::byte* values) = 0;

  /// As `load`, of any rows, each once. Fastest in the order of their addresses and in whole pages.
  virtual void load_rows(const TableLayout& table, std::span<const TableRow> rows,
                         const std::byte* values) {
    update(table, rows, values);
  }

  /// Whether some row has a later value than its page.
  virtual bool has_updated_rows() const { return false; }

  /// Ends a series of loads: returns when they are durable. Throws SystemFailure.
  virtual void settle() {}

  /// Copies the value of a row that was updated since its page was written. False if its page has
  /// the latest value.
  virtual bool find_updated(const RowAddress& row, std::span<std::byte> value) const {
    (void)row, (void)value;
    return false;
  }

  /// Reads a page that failed its check again, while no thread writes pages. Returns 0, or minus an
  /// errno: -EBADMSG for a page that is damaged.
  virtual std::int32_t recover_page(std::uint64_t page, std::span<std::byte> bytes) {
    (void)page, (void)bytes;
    return -EBADMSG;
  }

  /// The numbers of damaged pages among pages first ... first + n - 1 of a table. Reads them all.
  /// Throws SystemFailure.
  virtual std::vector<std::uint64_t> damaged_pages(const TableLayout& table, std::uint64_t first,
                                                   std::uint64_t n) {
    (void)table, (void)first, (void)n;
    return {};
  }

  /// "table 'item', rows 15 to 29", for messages.
  virtual std::string describe(std::uint64_t page) const {
    return "offset " + std::to_string(page);
  }
  /// The file with an offset of the pool, and the offset in that file, for messages.
  virtual FilePlace place_of(std::uint64_t offset) const { return {path(), offset}; }

  /// Returns when all earlier updates and loads are durable. Throws SystemFailure.
  virtual void sync() = 0;

  /// Writes all updates to their pages, durably. Throws SystemFailure.
  virtual void write_back() {}

  /// The pool's background work, in the caller's thread, until `stop`.
  virtual void work() {}
  virtual void stop() {}

  /// Drops earlier writes from the kernel's page cache.
  virtual void drop_caches() {}

  virtual UpdateStats updates() const { return {}; }
  /// Throws SystemFailure if the pool's file does not have its path any more: synced writes are not
  /// there then.
  virtual void check_present() const {}

  /// The random id of the pool's file; 0 if it has none.
  virtual std::uint64_t store_id() const { return 0; }
  virtual std::size_t block() const = 0;    ///< minimum of bytes per read
  virtual std::string kind() const = 0;     ///< "file", …
  virtual std::string path() const = 0;     ///< for messages and stats()
  virtual std::string engine() const = 0;   ///< method of reads
  virtual std::uint64_t bytes() const = 0;  ///< size of the pool
  virtual std::uint64_t cached_bytes()
      const = 0;  ///< DRAM that the kernel's page cache holds of it

  /// DRAM of the pool's own read buffers.
  virtual std::uint64_t buffer_bytes() const { return 0; }

  /// Whether rows are read in place. Then an offset is an address, valid as long as the pool.
  virtual bool in_place() const { return false; }
  /// Waits the emulated extra latency of reading `lines` cache lines in place.
  virtual void emulate_latency(std::size_t lines) const { (void)lines; }
  virtual MemoryTraits memory() const { return {}; }
  /// Memory like the pool's, for measurements of a pool that is read in place.
  virtual Region sample(std::size_t bytes) const { return Region(bytes, "sample"); }
};

}  // namespace tieralloc
