// scan.cpp: many pages of a table, read at the speed of the disk: to check or to copy them.
#include <algorithm>
#include <cerrno>

#include "base/error.hpp"
#include "slow_tier/file/file_io.hpp"
#include "slow_tier/file/file_pool.hpp"

namespace tieralloc {
namespace {

// Of one read; some are in flight at once.
constexpr std::uint64_t kReadBytes = std::uint64_t{256} << 10;
constexpr std::size_t kScanReads = 16;

}  // namespace

/// Calls `visit` with the offset of each page and with its bytes, mended if necessary; without
/// bytes if the page is damaged.
void FilePool::scan(const TableLayout& table, std::uint64_t first, std::uint64_t n,
                    const VisitPage& visit) {
  if (n == 0) return;
  const std::uint64_t page_bytes = table.pages.page_bytes;
  const std::uint64_t pages_per_read = std::max<std::uint64_t>(1, kReadBytes / page_bytes);
  const std::uint64_t read_bytes = round_up(pages_per_read * page_bytes, block()) + 2 * block();
  Region memory(kScanReads * read_bytes, "scan");
  NoListener listener;
  for (std::uint64_t page = first; page < first + n;) {
    std::vector<ReadOp> ops(std::min<std::uint64_t>(
        kScanReads, (first + n - page + pages_per_read - 1) / pages_per_read));
    for (std::size_t i = 0; i < ops.size(); ++i) {
      const std::uint64_t from = page + i * pages_per_read;
      const std::uint64_t until = std::min(first + n, from + pages_per_read);
      ops[i].offset = (table.offset + from * page_bytes) / block() * block();
      ops[i].length = static_cast<std::uint32_t>(
          round_up(table.offset + until * page_bytes, block()) - ops[i].offset);
      ops[i].buffer = memory.data() + i * read_bytes;
    }
    engine_->read(ops, listener);
    for (std::size_t i = 0; i < ops.size(); ++i) {
      if (ops[i].result != 0) fail_io(-ops[i].result, path_, "cannot read pages");
      const std::uint64_t until = std::min(first + n, page + pages_per_read);
      for (; page < until; ++page) {
        const std::uint64_t offset = table.offset + page * page_bytes;
        const std::span<std::byte> bytes(ops[i].buffer + (offset - ops[i].offset), page_bytes);
        const bool is_valid = !table.pages.has_footer ||
                              is_valid_page(bytes.data(), page_bytes, offset) ||
                              recover_page(offset, bytes) == 0;
        visit(offset, is_valid ? bytes : std::span<std::byte>());
      }
    }
  }
}

std::vector<std::uint64_t> FilePool::damaged_pages(const TableLayout& table, std::uint64_t first,
                                                   std::uint64_t n) {
  std::vector<std::uint64_t> damaged;
  if (!table.pages.has_footer) return damaged;
  scan(table, first, n, [&](std::uint64_t page, std::span<std::byte> bytes) {
    if (bytes.empty()) damaged.push_back((page - table.offset) / table.pages.page_bytes);
  });
  return damaged;
}

/// Copies pages of a table to other places, from `to` on, where all is zero. Throws SystemFailure,
/// also for a damaged page.
void FilePool::copy_pages(const TableLayout& from, std::uint64_t first, std::uint64_t n,
                          std::uint64_t to) {
  const std::uint64_t page_bytes = from.pages.page_bytes;
  std::vector<std::byte> run;  // the pages before `to`, copied and not written yet
  const auto write = [&] {
    write_fully(fd_, run, to - run.size(), path_);
    count_loaded(to - run.size(), to);
    run.clear();
  };
  scan(from, first, n, [&](std::uint64_t page, std::span<std::byte> bytes) {
    if (bytes.empty()) {
      throw SystemFailure(EIO, describe(page) + ": the page is damaged; load its rows again",
                          path_);
    }
    const PageFooter footer = footer_of(bytes.data(), page_bytes);
    const bool is_zero = footer.number == 0;
    if (is_zero || run.size() >= kReadBytes) write();
    if (!is_zero) {
      seal_page(bytes.data(), page_bytes, to, footer.generation);
      run.insert(run.end(), bytes.begin(), bytes.end());
    }
    to += page_bytes;
  });
  write();
}

}  // namespace tieralloc
