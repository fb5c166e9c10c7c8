// page_writer.hpp: pages of the tables, written in bulk or for rows of the redo log.
//
//   write_back, per batch of pages in file order:
//     read the pages that keep some of their rows; mend a torn one (redo_log.hpp)
//     set the rows; seal the pages; make the intents durable; write the pages
//
// Concurrency: any number of threads. Batches exclude each other.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "slow_tier/file/engine.hpp"
#include "slow_tier/file/redo_log.hpp"

namespace tieralloc {

/// The table that has a page; null if none has. `tables` are in order of offsets.
const TableLayout* table_at(const std::vector<TableLayout>& tables, std::uint64_t page);

/// The rows of a page of the table, ascending. Cost: of an arranged page, O(rows of the table).
std::vector<TableRow> rows_of_page(const TableLayout& table, std::uint64_t page);

/// The row at an offset of the file; cost as of `rows_of_page`.
TableRow row_at(const TableLayout& table, std::uint64_t offset);

/// "table 'item', rows 15 to 29", or each row of a page that an order gave its rows.
std::string describe_page(const std::vector<TableLayout>& tables, std::uint64_t page);

class PageWriter {
 public:
  /// `write_fd` is of the same file, for pages that are written back: direct if the file permits
  /// it, so that lookups do not wait for the page cache.
  PageWriter(int fd, int write_fd, std::string path, FetchEngine& engine)
      : fd_(fd), write_fd_(write_fd), path_(std::move(path)), engine_(engine) {}

  /// Writes fresh pages, from that of the first row to that of the last: zeros for others. `rows`
  /// are in the order of their addresses. False if some of the pages are not fresh. Throws
  /// SystemFailure.
  bool load(const TableLayout& table, std::span<const TableRow> rows, const std::byte* values);

  /// Whether all pages are zero.
  bool is_fresh(std::uint64_t begin, std::uint64_t end);

  /// Replaces invalid pages by zeros, except those that `log` can mend.
  void clear_torn(std::uint64_t begin, std::uint64_t end, const std::vector<TableLayout>& tables,
                  const LogGeneration* log);

  using Intend = std::function<void(std::span<const PageFooter>)>;
  struct Outcome {
    std::uint64_t written_rows = 0;
    std::vector<std::uint64_t> damaged_rows;  ///< offsets of rows in damaged pages, not written
  };
  /// Writes the rows of a sealed segment. Calls `intend` before it writes pages whose footers are
  /// no intents yet. Throws SystemFailure.
  Outcome write_back(const LogGeneration& log, const std::vector<TableLayout>& tables,
                     std::size_t reads_at_once, const Intend& intend);

  /// Reads a page again while no page is being written. Mends a torn page in `bytes`, from `log`
  /// if it is not null. Returns 0 or minus an errno.
  std::int32_t recover(std::uint64_t page, std::span<std::byte> bytes, const TableLayout& table,
                       const LogGeneration* log);

 private:
  struct Page;
  class Batch;

  void write_back_batch(Batch& batch, const LogGeneration& log, std::size_t reads_at_once,
                        const Intend& intend, Outcome& outcome);
  void read(Batch& batch, std::size_t reads_at_once);
  void write(Batch& batch);
  enum class Seal {
    damaged,
    intended,  ///< the footer is an intent already
    changed
  };
  static Seal set_rows(Page& page, const LogGeneration& log);

  const int fd_;
  const int write_fd_;
  const std::string path_;
  FetchEngine& engine_;
  std::mutex batch_mutex_;  ///< held from the read of pages to their write
  std::mutex pages_mutex_;  ///< held while pages are written
};

}  // namespace tieralloc
