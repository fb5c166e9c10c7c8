// table_space.cpp: space of the file for new tables, and that of removed ones.
//
//   add     take the first gap between tables that is large enough, emptied first; or grow the file
//   remove  write the redo log back, which numbers tables; then a superblock without the table
//   free    give the blocks back to the file system: at the end of the file, shorten it
//
// A crash leaves the table or none. Until a superblock names another table in a gap, what is there
// has no meaning: so a gap is emptied when it is taken, too.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

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

}  // namespace

/// Takes a gap, emptied, with disk blocks if they are reserved. False if there is none.
bool FilePool::take_gap(const file_format::Directory& directory, TableLayout& layout) {
  layout.offset = 0;
  const std::uint64_t bytes = file_format::table_end(layout);
  const std::uint64_t begin = find_gap(directory, bytes);
  if (begin == 0 || !punch_hole(fd_, begin, begin + bytes)) return false;
  if (options_.reserve &&
      fallocate(fd_, 0, static_cast<off_t>(begin), static_cast<off_t>(bytes)) != 0 &&
      errno != EOPNOTSUPP && errno != ENOSYS) {
    fail_io(errno, path_, "cannot reserve " + std::to_string(bytes) + " bytes of the slow tier");
  }
  layout.offset = begin;
  return true;
}

TableLayout FilePool::add_table(TableLayout layout) {
  check_writable();
  std::lock_guard lock(directory_mutex_);
  const std::uint64_t size = checked_size();
  layout.pages = PageLayout::paged(layout.stride);
  file_format::Directory next = superblocks_.directory();
  next.tables.push_back(layout);
  (void)file_format::encode(next);  // throws before the file changes
  const bool is_in_gap = take_gap(superblocks_.directory(), layout);
  if (!is_in_gap) layout.offset = round_up(size, kBlock);
  next.tables.back() = layout;
  const std::uint64_t end = file_format::table_end(layout);
  if (end > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    fail_io(EFBIG, path_, "cannot grow the slow tier to " + std::to_string(end) + " bytes");
  }
  if (!is_in_gap) grow(size, end);
  try {
    if (layout.order != nullptr) file_format::write_order(fd_, path_, layout);
    sync_pages();  // the space and the order, before a superblock names the table
    superblocks_.write(std::move(next));
  } catch (...) {
    if (!is_in_gap && ftruncate(fd_, static_cast<off_t>(size)) != 0) {
      // The old directory is valid; the space after it is unused.
    }
    throw;
  }
  if (!is_in_gap) end_ = end;
  return layout;
}

void FilePool::remove_table(const TableLayout& table) {
  check_writable();
  checked_size();
  write_back();
  end_fresh();
  if (log_->any()) {
    throw SystemFailure(EIO, "drop_table: the redo log has rows of damaged pages; load them again",
                        path_);
  }
  std::lock_guard lock(directory_mutex_);
  file_format::Directory next = superblocks_.directory();
  std::erase_if(next.tables,
                [&](const TableLayout& other) { return other.offset == table.offset; });
  superblocks_.write(std::move(next));
}

void FilePool::free_space(const TableLayout& table) noexcept {
  std::lock_guard lock(directory_mutex_);
  const std::uint64_t end = superblocks_.directory().end();
  if (end > table.offset) {
    (void)punch_hole(fd_, table.offset, file_format::table_end(table));
    return;
  }
  end_ = end;
  if (ftruncate(fd_, static_cast<off_t>(end)) != 0) {
    // The space after the last table is unused.
  }
}

}  // namespace tieralloc
