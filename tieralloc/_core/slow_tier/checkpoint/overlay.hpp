// overlay.hpp: new values of a checkpoint's rows, in a file of our own beside files that others
// wrote.
//
// The file is one segment of a redo log that is never written back (file/log_segment.hpp): an
// update is a frame, and counts as a whole or not at all. Its memory has all values. It is locked
// while it is open. It belongs to tables, by their names and shapes, and to the sizes of the files:
// an overlay of others is refused.
//
// Concurrency: any number of threads; updates and syncs are serialised here. Lock order:
// update_mutex_, rows_mutex_; sync_mutex_ alone.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "slow_tier/file/log_generation.hpp"

namespace tieralloc {

class Overlay {
 public:
  /// Opens or makes the file. `files_id` tells the files of the checkpoint from others. Throws
  /// SystemFailure: with EWOULDBLOCK if a store has the file open; and std::invalid_argument if it
  /// is not an overlay of these tables, or damaged.
  Overlay(const std::string& path, const std::vector<TableLayout>& tables, std::uint64_t files_id);
  ~Overlay();
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;

  /// Sets rows of the table at a position. Throws SystemFailure, changing nothing: with ENOSPC if
  /// the file has its full size.
  void update(std::uint32_t table, const TableLayout& layout, std::span<const TableRow> rows,
              const std::byte* values);
  bool any() const { return num_rows_.load(std::memory_order_acquire) > 0; }
  bool find(std::uint64_t offset, std::span<std::byte> value) const;

  /// Returns when all updates are durable. Throws SystemFailure.
  void sync();
  UpdateStats stats() const;

 private:
  void open_segment(const std::vector<TableLayout>& tables, std::uint64_t id);

  const std::string path_;
  int lock_fd_ = -1;
  LogGeneration generation_;
  mutable std::mutex rows_mutex_;
  std::mutex update_mutex_;
  std::mutex sync_mutex_;
  std::atomic<std::uint64_t> num_rows_{0};
};

}  // namespace tieralloc
