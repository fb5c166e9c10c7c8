// write_back.cpp: updates on their way to the log and to the pages, and what a failed sync loses.
//
// After a failed sync of the pages, the kernel takes them for clean, whether they are on the disk
// or not. A write-back starts again then, from the log; a load fails, and its caller repeats it.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/error.hpp"
#include "slow_tier/file/file_io.hpp"
#include "slow_tier/file/file_pool.hpp"

namespace tieralloc {
namespace {

constexpr std::uint64_t kDropCachesBytes = std::uint64_t{32} << 20;
// Announced as fresh at once.
constexpr std::uint64_t kFreshBytes = std::uint64_t{64} << 20;
constexpr std::chrono::milliseconds kRetryInterval{100};
// Lookups share the device with the background thread.
constexpr std::size_t kReadsBesideLookups = 8;
// Written at once: the memory of a load.
constexpr std::uint64_t kMaxSpanBytes = std::uint64_t{8} << 20;

/// Whether rows are in the order of their addresses, and few pages from the first to the last.
bool is_dense(const TableLayout& table, std::span<const TableRow> rows) {
  std::uint64_t first_page = 0, last = 0;
  for (const TableRow row : rows) {
    const RowAddress address = table.address(row);
    if (last == 0) first_page = address.page;
    if (address.offset() <= last || address.page - first_page > kMaxSpanBytes) return false;
    last = address.offset();
  }
  return true;
}

/// Rows of the first page, if it has others too; `rows` are in the order of their addresses.
std::size_t rows_before_full_page(const TableLayout& table, std::span<const TableRow> rows) {
  if (rows.empty()) return 0;
  const RowAddress first = table.address(rows.front());
  if (first.at == 0) return 0;
  const auto next = std::find_if(rows.begin(), rows.end(), [&](const TableRow& row) {
    return table.address(row).page != first.page;
  });
  return static_cast<std::size_t>(next - rows.begin());
}

}  // namespace

std::uint32_t FilePool::position_of(const TableLayout& table) const {
  std::lock_guard lock(directory_mutex_);
  const std::vector<TableLayout>& tables = superblocks_.directory().tables;
  const auto place = std::find_if(tables.begin(), tables.end(), [&](const TableLayout& other) {
    return other.offset == table.offset;
  });
  return static_cast<std::uint32_t>(place - tables.begin());
}

void FilePool::update(const TableLayout& table, std::span<const TableRow> rows,
                      const std::byte* values) {
  check_writable();
  checked_size();
  if (rows.empty()) return;
  const std::uint32_t position = position_of(table);
  while (true) {
    {
      std::lock_guard appending(append_mutex_);
      if (!log_->is_full(LogSegment::frame_bytes(rows.size(), table.stride))) {
        log_->update(position, table, rows, values);
        break;
      }
    }
    write_back_sealed();  // the background thread is late: the caller does its work
  }
  wake_if_sealed();
}

void FilePool::wake_if_sealed() {
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
  const std::vector<TableLayout> tables = tables_by_offset();
  const TableLayout* table = table_at(tables, page);
  const auto sealed = log_ == nullptr ? nullptr : log_->sealed();
  std::int32_t error =
      table == nullptr ? -EBADMSG : pages_->recover(page, bytes, *table, sealed.get());
  if (error == -EBADMSG && is_fresh(page)) {
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
    error = 0;
  }
  if (error == -EBADMSG) {
    std::lock_guard lock(stats_mutex_);
    ++stats_.page_errors;
  }
  return error;
}

void FilePool::load(const TableLayout& table, TableRow first, std::uint64_t rows,
                    const std::byte* values) {
  std::vector<TableRow> all(rows);
  for (std::uint64_t i = 0; i < rows; ++i) all[i].value = first.value + i;
  if (table.order == nullptr) {
    load_in_order(table, all, values);
  } else {
    load_rows(table, all, values);
  }
}

/// Of rows that lie far apart, the arranged ones go through the log, which writes them in file
/// order.
void FilePool::load_rows(const TableLayout& table, std::span<const TableRow> rows,
                         const std::byte* values) {
  if (is_dense(table, rows)) {
    load_in_order(table, rows, values);
    return;
  }
  const std::size_t row_bytes = table.row_bytes();
  std::array<std::vector<TableRow>, 2> parts;
  std::array<std::vector<std::byte>, 2> part_values;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool is_arranged = table.address(rows[i]).page >= table.arranged_offset();
    const std::byte* value = values + i * row_bytes;
    parts[is_arranged].push_back(rows[i]);
    part_values[is_arranged].insert(part_values[is_arranged].end(), value, value + row_bytes);
  }
  for (std::size_t part = 0; part < parts.size(); ++part) {
    if (is_dense(table, parts[part])) {
      load_in_order(table, parts[part], part_values[part].data());
    } else {
      update(table, parts[part], part_values[part].data());
    }
  }
}

/// Rows of pages that were never written are written there at once; others go through the log, so
/// that a crash tears none. `rows` are in the order of their addresses.
void FilePool::load_in_order(const TableLayout& table, std::span<const TableRow> rows,
                             const std::byte* values) {
  check_writable();
  checked_size();
  // The rest of a page whose other rows are loaded may be there.
  const std::size_t head = rows_before_full_page(table, rows);
  load_part(table, rows.first(head), values);
  load_part(table, rows.subspan(head), values + head * table.row_bytes());
}

void FilePool::load_part(const TableLayout& table, std::span<const TableRow> rows,
                         const std::byte* values) {
  if (rows.empty()) return;
  const std::uint64_t begin = table.address(rows.front()).page;
  const std::uint64_t end = table.address(rows.back()).page + table.pages.page_bytes;
  const std::vector<std::size_t> logged = logged_places(table, rows);
  if (!load_fresh(table, rows, values)) {
    update(table, rows, values);
    return;
  }
  // The log has older values of these rows, which it would write over the loaded ones.
  const std::size_t row_bytes = table.row_bytes();
  std::vector<TableRow> newer_rows(logged.size());
  std::vector<std::byte> newer(logged.size() * row_bytes);
  for (std::size_t i = 0; i < logged.size(); ++i) {
    newer_rows[i] = rows[logged[i]];
    std::memcpy(newer.data() + i * row_bytes, values + logged[i] * row_bytes, row_bytes);
  }
  update(table, newer_rows, newer.data());
  count_loaded(begin, end);
}

/// Writes loaded pages to the device in the background; drops the page cache every few bytes.
void FilePool::count_loaded(std::uint64_t begin, std::uint64_t end) {
  loaded_bytes_ += end - begin;
  if (loaded_bytes_ < kDropCachesBytes) {
    write_out(begin, end - begin, SYNC_FILE_RANGE_WRITE);
    return;
  }
  drop_caches();
  loaded_bytes_ = 0;
}

/// False if some of the pages were written before.
bool FilePool::load_fresh(const TableLayout& table, std::span<const TableRow> rows,
                          const std::byte* values) {
  const std::uint64_t begin = table.address(rows.front()).page;
  const std::uint64_t end = table.address(rows.back()).page + table.pages.page_bytes;
  std::lock_guard fresh(fresh_mutex_);
  if (!announce_fresh(table, begin, end)) return false;
  // On a full disk a write could end in the middle of the rows.
  if (!options_.reserve &&
      fallocate(fd_, 0, static_cast<off_t>(begin), static_cast<off_t>(end - begin)) != 0 &&
      (errno == ENOSPC || errno == EDQUOT)) {
    fail_io(errno, path_, "cannot load table '" + table.name + "'");
  }
  const std::uint64_t failed_syncs = failed_syncs_;
  if (!pages_->load(table, rows, values)) return false;
  std::lock_guard lock(loads_mutex_);
  if (!failed_before_load_) failed_before_load_ = failed_syncs;
  return true;
}

/// False if some of the pages were written before. Otherwise a superblock says that they are being
/// written, so that an invalid one counts as zero after a crash; ahead, for the next loads.
bool FilePool::announce_fresh(const TableLayout& table, std::uint64_t begin, std::uint64_t end) {
  {
    std::lock_guard lock(directory_mutex_);
    const file_format::Directory& directory = superblocks_.directory();
    if (directory.fresh_begin <= begin && end <= directory.fresh_end && begin >= fresh_from_) {
      fresh_from_ = end;
      return true;
    }
  }
  const std::uint64_t ahead = round_up(kFreshBytes, table.pages.page_bytes);
  std::uint64_t fresh_end = std::min(table.pages_end(), std::max(end, begin + ahead));
  if (!pages_->is_fresh(begin, fresh_end)) {
    fresh_end = end;
    if (!pages_->is_fresh(begin, end)) return false;
  }
  std::lock_guard lock(directory_mutex_);
  file_format::Directory next = superblocks_.directory();
  next.fresh_begin = begin;
  next.fresh_end = fresh_end;
  superblocks_.write(std::move(next));  // makes earlier loads durable, too
  fresh_from_ = end;
  return true;
}

/// Whether an invalid page counts as zero. Writers replaced such pages when they opened the file.
bool FilePool::is_fresh(std::uint64_t page) const {
  if (!read_only_) return false;
  std::lock_guard lock(directory_mutex_);
  const file_format::Directory& directory = superblocks_.directory();
  return directory.fresh_begin <= page && page < directory.fresh_end;
}

/// Ends the announcement, unless a later load is not durable yet.
void FilePool::end_fresh() {
  std::lock_guard fresh(fresh_mutex_);
  {
    std::lock_guard lock(loads_mutex_);
    if (failed_before_load_) return;
  }
  std::lock_guard lock(directory_mutex_);
  file_format::Directory next = superblocks_.directory();
  if (next.fresh_end == 0) return;
  next.fresh_begin = next.fresh_end = 0;
  superblocks_.write(std::move(next));
}

/// The places in `rows` of rows that the log has.
std::vector<std::size_t> FilePool::logged_places(const TableLayout& table,
                                                 std::span<const TableRow> rows) const {
  std::vector<std::size_t> logged;
  for (std::size_t i = 0; log_->any() && i < rows.size(); ++i) {
    if (log_->has(table.address(rows[i]).offset())) logged.push_back(i);
  }
  return logged;
}

/// Returns when all written pages and superblocks are durable.
void FilePool::sync_pages() {
  std::lock_guard syncing(sync_mutex_);
  const int lost = lost_.exchange(0);
  const int code = fdatasync(fd_) == 0 ? lost : errno;
  if (code == 0) return;
  ++failed_syncs_;
  fail_io(code, path_, "cannot sync the slow tier");
}

void FilePool::settle() {
  if (read_only_) return;
  std::optional<std::uint64_t> failed;
  {
    std::lock_guard lock(loads_mutex_);
    failed = std::exchange(failed_before_load_, std::nullopt);
  }
  if (!failed) return;
  sync_pages();
  // A sync that failed in another thread lost the pages, too.
  if (*failed != failed_syncs_) fail_io(EIO, path_, "cannot store loaded rows; load them again");
  end_fresh();
  drop_caches();
}

void FilePool::sync() {
  if (read_only_) return;
  settle();
  if (!log_->any()) return;
  checked_size();
  log_->sync();
}

/// Writes the rows of the sealed segment to their pages, except rows of damaged pages, which stay
/// in the log. Returns the number of rows written; at once if there is no such segment.
std::uint64_t FilePool::write_back_sealed(std::size_t reads_at_once) {
  std::lock_guard writing(write_back_mutex_);
  auto sealed = log_->sealed();
  if (sealed == nullptr) return 0;
  try {
    checked_size();
    log_->sync();  // no page has a row that the log could lose
    const std::uint64_t failed_syncs = failed_syncs_;
    const auto [rows, damaged] = pages_->write_back(
        *sealed, tables_by_offset(), reads_at_once,
        [&](std::span<const PageFooter> intents) { log_->add_intents(intents); });
    sync_pages();
    if (failed_syncs != failed_syncs_) fail_io(EIO, path_, "cannot sync the slow tier");
    drop_caches();
    keep_rows(*sealed, damaged);
    sealed.reset();  // so that its memory can be used again
    log_->cut();
    std::lock_guard lock(stats_mutex_);
    stats_.write_backs += rows;
    stats_.write_back_error =
        damaged.empty() ? "" : describe(damaged.front()) + ": the page is damaged";
    return rows;
  } catch (const std::exception& error) {
    std::lock_guard lock(stats_mutex_);
    ++stats_.write_back_errors;
    stats_.write_back_error = error.what();
    throw;
  }
}

/// Moves rows of a sealed segment to the active one.
void FilePool::keep_rows(const LogGeneration& sealed, std::span<const std::uint64_t> rows) {
  const std::vector<TableLayout> tables = tables_by_offset();
  for (const std::uint64_t row : rows) {
    std::lock_guard appending(append_mutex_);
    if (log_->is_active(row)) continue;
    const TableLayout& table = *table_at(tables, row);
    const TableRow number = row_at(table, row);
    log_->update(position_of(table), table, {&number, 1}, sealed.find(row));
  }
  log_->sync();
}

/// Rows of damaged pages stay in the log.
void FilePool::write_back() {
  if (read_only_) return;
  write_back_sealed();
  for (bool is_progress = true; is_progress;) {
    {
      std::lock_guard appending(append_mutex_);
      if (!log_->seal()) break;
    }
    is_progress = write_back_sealed() > 0;
  }
  log_->release_spare();
  sync();
}

/// Waits after a failure, because a full disk stays full for a while.
void FilePool::work() {
  if (read_only_) return;
  bool has_failed = false;
  std::unique_lock lock(work_mutex_);
  while (!is_stopping_) {
    const auto interval = has_failed ? kRetryInterval : options_.sync_interval;
    const bool is_woken =
        wake_.wait_for(lock, interval, [&] { return is_stopping_ || (has_work_ && !has_failed); });
    if (is_stopping_) return;
    if (!is_woken && log_->unsynced_bytes() == 0) log_->release_spare();  // no updates now
    has_work_ = false;
    lock.unlock();
    try {
      write_back_sealed(kReadsBesideLookups);
      if (options_.durability != Durability::none && log_->unsynced_bytes() > 0) log_->sync();
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
  stats.unsynced_bytes = log_->unsynced_bytes();
  return stats;
}

}  // namespace tieralloc
