// table_space.cpp: space of the file for new tables and for further rows, and that of removed ones.
//
//   add     take the first gap between tables that is large enough, emptied first; or grow the file
//   grow    take the space behind the table; or write the redo log back, which has places of rows,
//           and copy the pages to a larger space; then a superblock with the new layout
//   remove  write the redo log back, which numbers tables; then a superblock without the table
//   free    give the blocks back to the file system: at the end of the file, shorten it
//
// A crash leaves the old layout or the new one. Until a superblock names other pages in a gap or
// behind the last table, what is there has no meaning: so space is emptied when it is taken, too.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <memory>
#include <vector>

#include "base/error.hpp"
#include "slow_tier/file/file_io.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "slow_tier/file/order_area.hpp"

namespace tieralloc {
namespace {

/// The first gap of `bytes` between tables; 0 if there is none.
std::uint64_t find_gap(const file_format::Directory& directory, std::uint64_t bytes) {
  std::uint64_t begin = file_format::kDataOffset;
  for (const TableLayout& table : directory.by_offset()) {
    if (begin + bytes <= table.offset) return begin;
    begin = round_up(file_format::table_end(table), kPage);
  }
  return 0;
}

/// Makes a range of the file zero, without blocks. False if the file system cannot.
bool punch_hole(int fd, std::uint64_t begin, std::uint64_t end) {
  return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(begin),
                   static_cast<off_t>(end - begin)) == 0;
}

/// The order of a table that has further rows, which are not arranged.
std::shared_ptr<const RowOrder> order_with_rows(const TableLayout& table, std::uint64_t rows) {
  if (table.order == nullptr) return nullptr;
  std::vector<std::uint32_t> page_lengths(table.arranged_pages);
  for (std::uint64_t page = 0; page < page_lengths.size(); ++page) {
    page_lengths[page] = table.order->rows_in(page);
  }
  return std::make_shared<const RowOrder>(table.name, rows, table.pages.rows_per_page,
                                          table.order->arranged(), page_lengths);
}

}  // namespace

void FilePool::reserve_blocks(std::uint64_t begin, std::uint64_t end) {
  if (!options_.reserve) return;
  const int refused = fallocate(fd_, 0, static_cast<off_t>(begin), static_cast<off_t>(end - begin));
  if (refused == 0 || errno == EOPNOTSUPP || errno == ENOSYS) return;
  fail_io(errno, path_,
          "cannot reserve " + std::to_string(end - begin) + " bytes of the slow tier");
}

/// Takes a gap, emptied, with disk blocks if they are reserved. False if there is none.
bool FilePool::take_gap(TableLayout& layout) {
  layout.offset = 0;
  const std::uint64_t bytes = file_format::table_end(layout);
  const std::uint64_t begin = find_gap(superblocks_.directory(), bytes);
  if (begin == 0 || !punch_hole(fd_, begin, begin + bytes)) return false;
  reserve_blocks(begin, begin + bytes);
  layout.offset = begin;
  return true;
}

/// Takes space for the pages and the order of a table. With `directory_mutex_`.
void FilePool::take_space(TableLayout& layout) {
  const std::uint64_t size = checked_size();
  if (take_gap(layout)) return;
  layout.offset = round_up(size, kBlock);
  const std::uint64_t end = file_format::table_end(layout);
  if (end > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    fail_io(EFBIG, path_, "cannot grow the slow tier to " + std::to_string(end) + " bytes");
  }
  grow(size, end);
}

TableLayout FilePool::add_table(TableLayout layout) {
  check_writable();
  std::lock_guard lock(directory_mutex_);
  layout.pages = PageLayout::paged(layout.stride);
  file_format::Directory next = superblocks_.directory();
  next.tables.push_back(layout);
  (void)file_format::encode(next);  // throws before the file changes
  take_space(layout);
  try {
    if (layout.order != nullptr) file_format::write_order(fd_, path_, layout);
    sync_pages();  // the space and the order, before a superblock names the table
    next.tables.back() = layout;
    superblocks_.write(std::move(next));
  } catch (...) {
    release(layout);
    throw;
  }
  end_ = superblocks_.directory().end();
  return layout;
}

/// Writes all updates to their pages: the log has no row afterwards.
void FilePool::empty_log(const char* call) {
  write_back();
  end_fresh();
  if (!log_->any()) return;
  throw SystemFailure(
      EIO, std::string(call) + ": the redo log has rows of damaged pages; load them again", path_);
}

void FilePool::remove_table(const TableLayout& table) {
  check_writable();
  checked_size();
  empty_log("drop_table");
  std::lock_guard lock(directory_mutex_);
  file_format::Directory next = superblocks_.directory();
  std::erase_if(next.tables,
                [&](const TableLayout& other) { return other.offset == table.offset; });
  superblocks_.write(std::move(next));
}

/// Takes the space behind the table, up to the end of its further pages. False if it is taken.
bool FilePool::extend(const TableLayout& table, const TableLayout& grown) {
  if (table.order != nullptr) return false;  // it lies there
  std::lock_guard lock(directory_mutex_);
  const std::uint64_t begin = round_up(file_format::table_end(table), kPage);
  const std::uint64_t end = file_format::table_end(grown);
  if (end <= begin) return true;
  if (superblocks_.directory().end() > begin) {
    for (const TableLayout& other : superblocks_.directory().tables) {
      if (other.offset >= begin && other.offset < end) return false;
    }
    if (!punch_hole(fd_, begin, end)) return false;
    reserve_blocks(begin, end);
  } else {
    checked_size();
    if (ftruncate(fd_, static_cast<off_t>(begin)) != 0) return false;
    grow(begin, end);
  }
  return true;
}

TableLayout FilePool::prepare_growth(const TableLayout& table, std::uint64_t rows) {
  check_writable();
  TableLayout grown = table;
  grown.rows = rows;
  grown.order = order_with_rows(table, rows);
  const bool moves = !extend(table, grown);
  if (moves) {
    empty_log("resize");
    std::lock_guard lock(directory_mutex_);
    take_space(grown);
  }
  try {
    if (moves) {
      const std::uint64_t others = table.pages.num_pages(table.other_rows());
      copy_pages(table, 0, others, grown.offset);
      copy_pages(table, others, table.arranged_pages, grown.arranged_offset());
      if (grown.order != nullptr) file_format::write_order(fd_, path_, grown);
    }
    sync_pages();  // before a superblock names them
  } catch (...) {
    free_space(grown);
    throw;
  }
  return grown;
}

void FilePool::grow_table(const TableLayout& table, const TableLayout& grown) {
  checked_size();
  std::lock_guard lock(directory_mutex_);
  file_format::Directory next = superblocks_.directory();
  for (TableLayout& other : next.tables) {
    if (other.offset == table.offset) other = grown;
  }
  superblocks_.write(std::move(next));
  end_ = superblocks_.directory().end();
}

void FilePool::free_space(const TableLayout& former) noexcept {
  std::lock_guard lock(directory_mutex_);
  release(former);
}

/// Returns the space of a layout, except that of the table in the same place. With
/// `directory_mutex_`.
void FilePool::release(const TableLayout& former) noexcept {
  const file_format::Directory& directory = superblocks_.directory();
  std::uint64_t begin = former.offset;
  for (const TableLayout& table : directory.tables) {
    if (table.offset == former.offset) begin = round_up(file_format::table_end(table), kPage);
  }
  const std::uint64_t end = file_format::table_end(former);
  if (begin >= end) return;
  if (directory.end() > begin) {
    (void)punch_hole(fd_, begin, end);
    return;
  }
  end_ = directory.end();
  if (ftruncate(fd_, static_cast<off_t>(directory.end())) != 0) {
    // The space after the last table is unused.
  }
}

}  // namespace tieralloc
