// write_back.cpp: updates on their way to the log and to the pages, and what a failed sync loses.
//
// After a failed sync of the pages, the kernel takes them for clean, whether they are on the disk
// or not. A write-back starts again then, from the log. Loaded rows are not in the log: `sync`
// fails until they are loaded again.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include "base/error.hpp"
#include "slow_tier/file/file_io.hpp"
#include "slow_tier/file/file_pool.hpp"

namespace tieralloc {
namespace {

constexpr std::uint64_t kDropCachesBytes = std::uint64_t{32} << 20;
constexpr std::chrono::milliseconds kRetryInterval{100};

}  // namespace

std::uint32_t FilePool::position_of(const TableLayout& table) const {
  std::lock_guard lock(directory_mutex_);
  const std::vector<TableLayout>& tables = superblocks_.directory().tables;
  return static_cast<std::uint32_t>(table_at(tables, table.offset) - tables.data());
}

void FilePool::update(const TableLayout& table, std::span<const TableRow> rows,
                      const std::byte* values) {
  check_writable();
  checked_size();
  if (rows.empty()) return;
  // The background thread is late: the caller does its work.
  if (log_->is_full(rows.size(), table.stride)) write_back_sealed();
  log_->update(position_of(table), table, rows, values);
  if (log_->sealed() == nullptr) return;
  {
    std::lock_guard lock(work_mutex_);
    has_work_ = true;
  }
  wake_.notify_one();
}

void FilePool::commit() {
  if (options_.durability == Durability::commit) log_->sync();
}

bool FilePool::find_updated(const RowAddress& row, std::span<std::byte> value) const {
  return has_updated_rows() && log_->find(row.offset(), value);
}

std::int32_t FilePool::recover_page(std::uint64_t page, std::span<std::byte> bytes) {
  const std::vector<TableLayout> tables = this->tables();
  const TableLayout* table = table_at(tables, page);
  const auto sealed = log_ == nullptr ? nullptr : log_->sealed();
  const std::int32_t error =
      table == nullptr ? -EBADMSG : pages_->recover(page, bytes, *table, sealed.get());
  if (error == -EBADMSG) {
    std::lock_guard lock(stats_mutex_);
    ++stats_.page_errors;
  }
  return error;
}

void FilePool::load(const TableLayout& table, TableRow first, std::uint64_t rows,
                    const std::byte* values) {
  check_writable();
  checked_size();
  if (rows == 0) return;
  write_back_log();  // else the log would replay older values over the loaded ones
  std::lock_guard writing(write_back_mutex_);
  const std::uint64_t begin = table.address(first).page;
  const std::uint64_t end = table.address({first.value + rows - 1}).page + table.pages.page_bytes;
  // On a full disk a write could end in the middle of the rows.
  if (!options_.reserve &&
      fallocate(fd_, 0, static_cast<off_t>(begin), static_cast<off_t>(end - begin)) != 0 &&
      (errno == ENOSPC || errno == EDQUOT)) {
    fail_io(errno, path_, "cannot load table '" + table.name + "'");
  }
  const std::uint64_t failed_syncs = this->failed_syncs();
  pages_->load(table, first, rows, values);
  note_loaded(table, first, rows, failed_syncs);
  written_bytes_ += end - begin;
  if (written_bytes_ >= kDropCachesBytes) {
    drop_caches();
    written_bytes_ = 0;
  }
}

std::uint64_t FilePool::failed_syncs() {
  std::lock_guard syncing(sync_mutex_);
  return failed_syncs_;
}

/// The rows count as loaded again if an earlier sync lost them. Throws if a sync failed since
/// `failed_syncs`: it may have lost them.
void FilePool::note_loaded(const TableLayout& table, TableRow first, std::uint64_t rows,
                           std::uint64_t failed_syncs) {
  const LoadedRows loaded{table.name, first.value, first.value + rows - 1};
  std::lock_guard syncing(sync_mutex_);
  if (failed_syncs != failed_syncs_) fail_io(EIO, path_, "cannot sync the slow tier");
  std::lock_guard lock(loads_mutex_);
  if (!unsynced_loads_.empty() && unsynced_loads_.back().table == table.name &&
      unsynced_loads_.back().last + 1 == loaded.first) {
    unsynced_loads_.back().last = loaded.last;
  } else {
    unsynced_loads_.push_back(loaded);
  }
  std::vector<LoadedRows> lost;
  for (const LoadedRows& rest : lost_loads_) {
    if (rest.table != table.name || rest.last < loaded.first || rest.first > loaded.last) {
      lost.push_back(rest);
      continue;
    }
    if (rest.first < loaded.first) lost.push_back({rest.table, rest.first, loaded.first - 1});
    if (rest.last > loaded.last) lost.push_back({rest.table, loaded.last + 1, rest.last});
  }
  lost_loads_ = std::move(lost);
}

void FilePool::check_lost_loads() const {
  std::lock_guard lock(loads_mutex_);
  if (lost_loads_.empty()) return;
  const LoadedRows& lost = lost_loads_.front();
  throw SystemFailure(EIO,
                      "rows " + std::to_string(lost.first) + " to " + std::to_string(lost.last) +
                          " of table '" + lost.table +
                          "' may be lost, because the disk failed to store them; load them again",
                      path_);
}

/// Returns when all written pages and superblocks are durable.
void FilePool::sync_pages() {
  std::lock_guard syncing(sync_mutex_);
  std::vector<LoadedRows> loads;
  {
    std::lock_guard lock(loads_mutex_);
    loads = std::exchange(unsynced_loads_, {});
  }
  const int lost = lost_.exchange(0);
  const int code = fdatasync(fd_) == 0 ? lost : errno;
  if (code == 0) return;
  ++failed_syncs_;
  {
    std::lock_guard lock(loads_mutex_);
    lost_loads_.insert(lost_loads_.end(), loads.begin(), loads.end());
  }
  fail_io(code, path_, "cannot sync the slow tier");
}

void FilePool::sync_loads() {
  bool has_loads = false;
  {
    std::lock_guard syncing(sync_mutex_);  // a sync in another thread may have taken the loads
    std::lock_guard lock(loads_mutex_);
    has_loads = !unsynced_loads_.empty();
  }
  if (has_loads || lost_ != 0) sync_pages();
}

void FilePool::sync() {
  if (read_only_) return;
  sync_loads();
  check_lost_loads();
  log_->sync();
}

/// Writes the rows of the sealed segment to their pages. Returns at once if there is none.
void FilePool::write_back_sealed() {
  std::lock_guard writing(write_back_mutex_);
  const auto sealed = log_->sealed();
  if (sealed == nullptr) return;
  try {
    log_->sync();  // no page has a row that the log could lose
    sync_loads();  // a page that a power cut tears has sectors of one earlier version
    const std::uint64_t failed_syncs = this->failed_syncs();
    const std::uint64_t rows = pages_->write_back(
        *sealed, tables(),
        [&](std::span<const PageFooter> intents) { log_->add_intents(intents); });
    sync_pages();
    if (failed_syncs != this->failed_syncs()) fail_io(EIO, path_, "cannot sync the slow tier");
    drop_caches();
    log_->cut();
    std::lock_guard lock(stats_mutex_);
    stats_.write_backs += rows;
    stats_.write_back_error.clear();
  } catch (const std::exception& error) {
    std::lock_guard lock(stats_mutex_);
    ++stats_.write_back_errors;
    stats_.write_back_error = error.what();
    throw;
  }
}

void FilePool::write_back_log() {
  do {
    write_back_sealed();
  } while (log_->seal());
}

void FilePool::write_back() {
  if (read_only_) return;
  write_back_log();
  sync();
}

/// Waits after a failure, because a full disk stays full for a while.
void FilePool::work() {
  if (read_only_) return;
  bool has_failed = false;
  std::unique_lock lock(work_mutex_);
  while (!is_stopping_) {
    const auto interval = has_failed ? kRetryInterval : options_.sync_interval;
    wake_.wait_for(lock, interval, [&] { return is_stopping_ || (has_work_ && !has_failed); });
    if (is_stopping_) return;
    has_work_ = false;
    lock.unlock();
    try {
      write_back_sealed();
      if (options_.durability != Durability::none && !log_->is_synced()) log_->sync();
      has_failed = false;
    } catch (const std::exception& error) {
      has_failed = true;
      std::lock_guard noting(stats_mutex_);
      stats_.write_back_error = error.what();
    }
    lock.lock();
  }
}

void FilePool::stop() {
  {
    std::lock_guard lock(work_mutex_);
    is_stopping_ = true;
  }
  wake_.notify_all();
}

UpdateStats FilePool::updates() const {
  std::unique_lock lock(stats_mutex_);
  UpdateStats stats = stats_;
  lock.unlock();
  if (log_ == nullptr) return stats;
  stats.dirty_rows = log_->num_rows();
  stats.log_bytes = log_->bytes();
  return stats;
}

}  // namespace tieralloc
