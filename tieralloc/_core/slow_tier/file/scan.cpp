// scan.cpp: all pages of a table, read at the speed of the disk and checked.
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

std::vector<std::uint64_t> FilePool::damaged_pages(const TableLayout& table, std::uint64_t first,
                                                   std::uint64_t n) {
  std::vector<std::uint64_t> damaged;
  const std::uint64_t page_bytes = table.pages.page_bytes;
  if (!table.pages.has_footer || n == 0) return damaged;
  const std::uint64_t pages_per_read = std::max<std::uint64_t>(1, kReadBytes / page_bytes);
  const std::uint64_t read_bytes = round_up(pages_per_read * page_bytes, block()) + 2 * block();
  Region memory(kScanReads * read_bytes, "scan");
  std::vector<std::byte> again(page_bytes);
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
        const std::byte* bytes = ops[i].buffer + (offset - ops[i].offset);
        if (is_valid_page(bytes, page_bytes, offset)) continue;
        if (recover_page(offset, again) != 0) damaged.push_back(page);
      }
    }
  }
  return damaged;
}

}  // namespace tieralloc
