// redo_log.hpp: the updates of rows that are not in their pages yet.
//
//   update      append a frame to the active segment; then its rows are found here
//   delta       append frames, their rows unseen; commit; then all rows are found (log_delta.hpp)
//   seal        the active segment is full: it becomes the sealed one; a new one becomes active
//   write back  the file pool writes the rows of the sealed segment to their pages, in file order
//   cut         the pages are durable: the sealed segment ends
//
// There are two segments at most. The memory of the segments has all values, so that no reader
// reads a log file. Files are named PATH.log-NUMBER; the superblock has the numbers in use.
//
// Before a page is overwritten, its new footer is durable in the sealed segment (an intent). A page
// that a power cut tore has old and new sectors, which differ only in rows of that segment: with
// these rows and the intended footer, the page is what it was to become, or it is damaged. A
// write-back that starts again writes the same page with the same footer, so an intent stays valid
// until the segment ends. A segment with intents receives no further rows.
//
// Concurrency: one thread at a time updates and seals, one writes back and cuts; all other
// functions may be called by any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "slow_tier/file/log_generation.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

class RedoLog {
 public:
  struct Options {
    std::string prefix;  ///< of the names of the files
    std::uint64_t store_id = 0;
    unsigned permissions = 0600;
  };
  /// Makes the numbers of the live segments durable; 0, 0: there are none. `version`: of the last
  /// delta that the pages have now, 0 if that is as before.
  using Announce =
      std::function<void(std::uint64_t first, std::uint64_t last, std::uint64_t version)>;

  RedoLog(Options options, Announce announce)
      : options_(std::move(options)), announce_(std::move(announce)) {}

  /// Reads the live segments; `version` is of the last delta before them. A writer removes files of
  /// others, which a crash or a former store of this name left. Throws as LogSegment::replay.
  void replay(std::uint64_t first, std::uint64_t last, const std::vector<TableLayout>& tables,
              bool writable, std::uint64_t version = 0);

  /// Whether a sealed segment must be written back before an update of so many bytes.
  bool is_full(std::uint64_t bytes) const;
  /// Appends an update. `table` is the position of its table. Requires a log that is not full, or
  /// few rows. Throws SystemFailure, changing nothing.
  void update(std::uint32_t table, const TableLayout& layout, std::span<const TableRow> rows,
              const std::byte* values);

  /// Of the last delta that readers find.
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }

  bool any() const { return num_rows_.load(std::memory_order_acquire) > 0; }
  std::uint64_t num_rows() const { return num_rows_.load(std::memory_order_relaxed); }
  std::uint64_t bytes() const;
  bool find(std::uint64_t row, std::span<std::byte> value) const;
  /// Whether the log has a value of the row; or the active segment has.
  bool has(std::uint64_t row) const;
  bool is_active(std::uint64_t row) const;

  /// Returns when all updates are durable. Throws SystemFailure.
  void sync();
  std::uint64_t unsynced_bytes() const;

  /// Seals the active segment. False if there is none, or another one is sealed.
  bool seal();
  /// Null if none is sealed. Its rows do not change.
  std::shared_ptr<LogGeneration> sealed() const;
  /// Makes the footers durable that pages of the sealed segment are about to have.
  void add_intents(std::span<const PageFooter> footers);
  /// Ends the sealed segment, whose rows are in their pages. Throws SystemFailure.
  void cut();
  /// Returns the memory that `cut` kept for the next segment.
  void release_spare();

 private:
  friend class LogDelta;

  std::string path_of(std::uint64_t number) const;
  void remove_others(std::uint64_t first, std::uint64_t last) const;
  LogGeneration& active_for(std::uint64_t bytes);
  void start_segment(std::uint64_t min_bytes);
  std::shared_ptr<LogGeneration> read_segment(std::uint64_t number,
                                              const std::vector<TableLayout>& tables,
                                              bool writable) const;
  std::vector<std::shared_ptr<LogGeneration>> generations() const;
  void count_rows();

  /// Memory of a segment that ended, for the next one.
  struct Spare {
    Region memory{};
    std::uint64_t memory_used = 0;
    LogIndex rows{};
  };
  void keep_spare(LogGeneration& ended);
  Spare take_spare();

  const Options options_;
  const Announce announce_;
  mutable std::mutex mutex_;  ///< of the next three, and of the active generation's rows
  std::shared_ptr<LogGeneration> active_;
  std::shared_ptr<LogGeneration> sealed_;
  Spare spare_;
  std::mutex segments_;  ///< one change of the live segments at a time, with its announcement
  std::uint64_t last_number_ = 0;
  std::mutex sync_mutex_;  ///< one sync at a time: later ones find their frames durable
  std::atomic<std::uint64_t> num_rows_{0};
  std::atomic<std::uint64_t> version_{0};
};

}  // namespace tieralloc
