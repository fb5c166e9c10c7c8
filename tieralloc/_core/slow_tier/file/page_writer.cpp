// page_writer.cpp: batches of pages, read, changed and written.
#include "slow_tier/file/page_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/error.hpp"
#include "slow_tier/file/file_io.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kBatchBytes = std::size_t{8} << 20;
constexpr std::uint64_t kFreshReadBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kWriteBytes = std::uint64_t{64} << 10;

bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

/// Of a page before the arranged ones: its first place, and its number of rows.
std::pair<std::uint64_t, std::uint64_t> places_in(const TableLayout& table, std::uint64_t page) {
  const PageLayout& pages = table.pages;
  const std::uint64_t first = (page - table.offset) / pages.page_bytes * pages.rows_per_page;
  return {first, std::min<std::uint64_t>(pages.rows_per_page, table.other_rows() - first)};
}

/// Number of rows in a page; fewer in the last one of a table, and in arranged ones.
std::uint64_t rows_in(const TableLayout& table, std::uint64_t page) {
  if (page < table.arranged_offset()) return places_in(table, page).second;
  return table.order->rows_in((page - table.arranged_offset()) / table.pages.page_bytes);
}

/// Completes a torn page, whose rows of the log are set. False if that does not make the intended
/// page: then it is damaged otherwise.
bool mend_page(std::byte* bytes, std::size_t size, std::uint64_t offset, const LogGeneration& log) {
  const std::optional<PageFooter> intent = log.intent_of(offset);
  if (!intent) return false;
  seal_page(bytes, size, offset, intent->generation);
  return footer_of(bytes, size).checksum == intent->checksum;
}

}  // namespace

const TableLayout* table_at(const std::vector<TableLayout>& tables, std::uint64_t page) {
  const auto after = std::upper_bound(
      tables.begin(), tables.end(), page,
      [](std::uint64_t offset, const TableLayout& table) { return offset < table.offset; });
  if (after == tables.begin()) return nullptr;
  const TableLayout& table = *(after - 1);
  return page < table.pages_end() ? &table : nullptr;
}

std::vector<TableRow> rows_of_page(const TableLayout& table, std::uint64_t page) {
  std::vector<TableRow> rows;
  if (page < table.arranged_offset()) {
    const auto [first, count] = places_in(table, page);
    for (std::uint64_t place = first; place < first + count; ++place) {
      rows.push_back({table.order == nullptr ? place : table.order->other_row(place)});
    }
    return rows;
  }
  for (std::uint64_t row = 0; row < table.rows; ++row) {
    if (table.address({row}).page == page) rows.push_back({row});
  }
  return rows;
}

TableRow row_at(const TableLayout& table, std::uint64_t offset) {
  const std::uint64_t at = (offset - table.offset) % table.pages.page_bytes;
  return rows_of_page(table, offset - at)[at / table.stride];
}

std::string describe_page(const std::vector<TableLayout>& tables, std::uint64_t page) {
  const TableLayout* table = table_at(tables, page);
  if (table == nullptr) return "offset " + std::to_string(page);
  const std::vector<TableRow> rows = rows_of_page(*table, page);
  std::string text = "table '" + table->name + "', ";
  const std::uint64_t first = rows.front().value, last = rows.back().value;
  text += "rows " + std::to_string(first);
  if (last - first + 1 == rows.size()) return text + " to " + std::to_string(last);
  for (std::size_t i = 1; i < rows.size(); ++i) text += ", " + std::to_string(rows[i].value);
  return text;
}

/// A page and the rows of it that are to be set: [first, last) of a sorted list.
struct PageWriter::Page {
  const TableLayout* table = nullptr;
  std::uint64_t offset = 0;
  const LogIndex::Entry* first = nullptr;
  const LogIndex::Entry* last = nullptr;
  std::byte* bytes = nullptr;

  std::uint32_t size() const { return table->pages.page_bytes; }
  std::uint64_t end() const { return offset + size(); }
  bool is_complete() const {
    return static_cast<std::uint64_t>(last - first) == rows_in(*table, offset);
  }
};

/// Pages in ascending order, and memory for them.
class PageWriter::Batch {
 public:
  bool has_room(const Page& page) const {
    return pages.empty() || used_ + page.size() <= memory_.size();
  }
  void clear() {
    pages.clear();
    used_ = 0;
  }
  void add(Page page) {
    if (used_ + page.size() > memory_.size()) memory_ = Region(page.size(), "write-back");
    page.bytes = memory_.data() + used_;
    std::memset(page.bytes, 0, page.size());
    used_ += page.size();
    pages.push_back(page);
  }

  std::vector<Page> pages;

 private:
  Region memory_{kBatchBytes, "write-back"};
  std::size_t used_ = 0;
};

/// Reads the pages that keep some of their rows.
void PageWriter::read(Batch& batch, std::size_t reads_at_once) {
  std::vector<const Page*> kept;
  for (const Page& page : batch.pages) {
    if (!page.is_complete()) kept.push_back(&page);
  }
  NoListener listener;
  for (std::size_t at = 0; at < kept.size(); at += reads_at_once) {
    const std::size_t n = std::min(reads_at_once, kept.size() - at);
    std::vector<ReadOp> ops(n);
    for (std::size_t i = 0; i < n; ++i) {
      const Page& page = *kept[at + i];
      ops[i].offset = page.offset;
      ops[i].length = page.size();
      ops[i].buffer = page.bytes;
    }
    engine_.read(ops, listener);
    for (const ReadOp& op : ops) {
      if (op.result == -ENODATA) {
        throw SystemFailure(EIO, "cannot write rows back: the file was cut short", path_);
      }
      if (op.result != 0) fail_io(-op.result, path_, "cannot read pages to write rows back");
    }
  }
}

/// Sets the rows of a page that was read or is complete, and seals it.
PageWriter::Seal PageWriter::set_rows(Page& page, const LogGeneration& log) {
  const bool is_valid = page.is_complete() || is_valid_page(page.bytes, page.size(), page.offset);
  const std::optional<PageFooter> intent = log.intent_of(page.offset);
  const std::uint32_t generation = footer_of(page.bytes, page.size()).generation + 1;
  for (const LogIndex::Entry* entry = page.first; entry != page.last; ++entry) {
    std::memcpy(page.bytes + (entry->row - page.offset), log.segment->at(entry->at),
                page.table->stride);
  }
  if (intent) {
    seal_page(page.bytes, page.size(), page.offset, intent->generation);
    if (footer_of(page.bytes, page.size()).checksum == intent->checksum) return Seal::intended;
  }
  if (!is_valid) return Seal::damaged;
  seal_page(page.bytes, page.size(), page.offset, generation);
  return Seal::changed;
}

void PageWriter::write(Batch& batch) {
  for (std::size_t i = 0; i < batch.pages.size();) {
    const Page& first = batch.pages[i];
    std::uint64_t bytes = 0;
    do {
      bytes += batch.pages[i++].size();
    } while (i < batch.pages.size() && batch.pages[i].offset == first.offset + bytes &&
             bytes + batch.pages[i].size() <= kWriteBytes);
    std::lock_guard lock(pages_mutex_);
    write_fully(write_fd_, {first.bytes, bytes}, first.offset, path_);
  }
}

void PageWriter::write_back_batch(Batch& batch, const LogGeneration& log, std::size_t reads_at_once,
                                  const Intend& intend, Outcome& outcome) {
  std::lock_guard lock(batch_mutex_);
  read(batch, reads_at_once);
  std::vector<PageFooter> intents;
  std::erase_if(batch.pages, [&](Page& page) {
    const Seal seal = set_rows(page, log);
    if (seal == Seal::damaged) {
      std::transform(page.first, page.last, std::back_inserter(outcome.damaged_rows),
                     [](const LogIndex::Entry& entry) { return entry.row; });
      return true;
    }
    if (seal == Seal::changed) intents.push_back(footer_of(page.bytes, page.size()));
    outcome.written_rows += static_cast<std::uint64_t>(page.last - page.first);
    return false;
  });
  if (!intents.empty()) intend(intents);
  write(batch);
  batch.clear();
}

PageWriter::Outcome PageWriter::write_back(const LogGeneration& log,
                                           const std::vector<TableLayout>& tables,
                                           std::size_t reads_at_once, const Intend& intend) {
  const std::vector<LogIndex::Entry> rows = log.rows.sorted();
  Outcome outcome;
  Batch batch;
  const LogIndex::Entry* const end = rows.data() + rows.size();
  for (const LogIndex::Entry* entry = rows.data(); entry != end;) {
    Page page;
    page.table = table_at(tables, entry->row);
    page.offset = entry->row - (entry->row - page.table->offset) % page.table->pages.page_bytes;
    page.first = entry;
    page.last = std::find_if(entry, end,
                             [&](const LogIndex::Entry& other) { return other.row >= page.end(); });
    entry = page.last;
    if (!batch.has_room(page)) write_back_batch(batch, log, reads_at_once, intend, outcome);
    batch.add(page);
  }
  if (!batch.pages.empty()) write_back_batch(batch, log, reads_at_once, intend, outcome);
  return outcome;
}

bool PageWriter::load(const TableLayout& table, std::span<const TableRow> rows,
                      const std::byte* values) {
  const PageLayout& pages = table.pages;
  const std::size_t row_bytes = table.row_bytes();
  const std::uint64_t begin = table.address(rows.front()).page;
  const std::uint64_t end = table.address(rows.back()).page + pages.page_bytes;
  Region memory(end - begin, "load");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::uint64_t at = table.address(rows[i]).offset() - begin;
    std::memcpy(memory.data() + at, values + i * row_bytes, row_bytes);
  }
  for (std::uint64_t page = begin; page < end; page += pages.page_bytes) {
    seal_page(memory.data() + (page - begin), pages.page_bytes, page, 1);
  }
  std::lock_guard batch(batch_mutex_);
  if (!is_fresh(begin, end)) return false;
  std::lock_guard lock(pages_mutex_);
  write_fully(fd_, {memory.data(), end - begin}, begin, path_);
  return true;
}

bool PageWriter::is_fresh(std::uint64_t begin, std::uint64_t end) {
  // Reserved blocks that were never written are a hole, as are absent ones.
  const off_t data = lseek(fd_, static_cast<off_t>(begin), SEEK_DATA);
  if (data < 0 ? errno == ENXIO : static_cast<std::uint64_t>(data) >= end) return true;
  // A little first: what is read counts as data the next time, though it is a hole.
  std::vector<std::byte> bytes;
  std::uint64_t size = kPage;
  for (std::uint64_t at = begin; at < end; at += bytes.size()) {
    bytes.resize(std::min<std::uint64_t>(size, end - at));
    if (read_up_to(fd_, bytes, at, path_) < bytes.size()) return false;
    if (!is_zero(bytes)) return false;
    size = std::min<std::uint64_t>(2 * size, kFreshReadBytes);
  }
  return true;
}

std::int32_t PageWriter::recover(std::uint64_t page, std::span<std::byte> bytes,
                                 const TableLayout& table, const LogGeneration* log) {
  try {
    std::lock_guard lock(pages_mutex_);
    if (read_up_to(fd_, bytes, page, path_) < bytes.size()) return -ENODATA;
  } catch (const SystemFailure& failure) {
    return -failure.code;
  }
  if (is_valid_page(bytes.data(), bytes.size(), page)) return 0;
  if (log == nullptr) return -EBADMSG;
  for (std::uint64_t i = 0; i < rows_in(table, page); ++i) {
    const std::byte* value = log->find(page + i * table.stride);
    if (value != nullptr) std::memcpy(bytes.data() + i * table.stride, value, table.stride);
  }
  return mend_page(bytes.data(), bytes.size(), page, *log) ? 0 : -EBADMSG;
}

void PageWriter::clear_torn(std::uint64_t begin, std::uint64_t end,
                            const std::vector<TableLayout>& tables, const LogGeneration* log) {
  for (std::uint64_t page = begin; page < end;) {
    const TableLayout* table = table_at(tables, page);
    if (table == nullptr) return;
    std::vector<std::byte> bytes(table->pages.page_bytes);
    if (recover(page, bytes, *table, log) == -EBADMSG) {
      std::fill(bytes.begin(), bytes.end(), std::byte{0});
      write_fully(fd_, bytes, page, path_);
    }
    page += bytes.size();
  }
}

}  // namespace tieralloc
