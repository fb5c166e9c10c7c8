// resident_table.cpp: addresses, writes and the first read of a table in DRAM.
#include "fast_tier/resident_table.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fast_tier/tier_layout.hpp"
#include "kernels/kernels.hpp"
#include "slow_tier/fetch_batch.hpp"

namespace tieralloc {
namespace {

constexpr std::uint64_t kFillPages = 1024;  // pages read at a time

}  // namespace

RowPatch::RowPatch(std::span<const TableRow> rows, const std::byte* values) : values_(values) {
  places_.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) places_.push_back({rows[i], i});
  sort();
}

RowPatch::RowPatch(std::vector<Place> places, const std::byte* base)
    : values_(base), is_dense_(false), places_(std::move(places)) {
  sort();
}

void RowPatch::sort() {
  // The last of equal rows comes first, and `unique` keeps it.
  std::sort(places_.begin(), places_.end(), [](const Place& a, const Place& b) {
    return a.row != b.row ? a.row < b.row : a.at > b.at;
  });
  const auto end = std::unique(places_.begin(), places_.end(),
                               [](const Place& a, const Place& b) { return a.row == b.row; });
  places_.erase(end, places_.end());
}

const std::byte* RowPatch::find(TableRow row, std::size_t row_bytes) const {
  if (row.value - first_.value < count_) return values_ + (row.value - first_.value) * row_bytes;
  const auto at =
      std::lower_bound(places_.begin(), places_.end(), row,
                       [](const Place& place, TableRow row) { return place.row < row; });
  return at != places_.end() && at->row == row ? value_at(*at, row_bytes) : nullptr;
}

std::uint64_t ResidentTable::bytes_for(const TableLayout& layout) {
  return Region::size_for(layout.rows * slot_stride(layout));
}

ResidentTable::ResidentTable(const TableLayout& layout, EpochManager& epochs)
    : rows_(layout.rows),
      row_bytes_(layout.row_bytes()),
      stride_(slot_stride(layout)),
      epochs_(epochs),
      memory_(bytes_for(layout), "fast tier's vectors") {}

void ResidentTable::locate(std::span<const RowId> rows, const std::byte** addresses) const {
  for (std::size_t i = 0; i < rows.size(); ++i) addresses[i] = row(rows[i]);
  const RowPatch* patch = patch_.load(std::memory_order_seq_cst);
  if (patch != nullptr) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (const std::byte* bytes = patch->find(TableRow{rows[i]}, row_bytes_)) addresses[i] = bytes;
    }
  }
  const std::size_t first = std::min(rows.size(), kPrefetchDistance);
  for (std::size_t i = 0; i < first; ++i) prefetch_row(addresses[i], row_bytes_);
}

void ResidentTable::write(const RowPatch& patch) {
  patch_.store(&patch, std::memory_order_seq_cst);
  epochs_.wait_for_readers();
  patch.each(row_bytes_, [&](TableRow written, const std::byte* bytes) {
    std::memcpy(row(written.value), bytes, row_bytes_);
  });
  patch_.store(nullptr, std::memory_order_seq_cst);
  epochs_.wait_for_readers();
}

std::int32_t ResidentTable::fill(const TableLayout& layout, SlowPool& pool, BufferPool& buffers) {
  if (pool.in_place()) {
    for (RowId i = 0; i < rows_; ++i) {
      const auto address = static_cast<std::uintptr_t>(layout.address({i}).offset());
      std::memcpy(row(i), reinterpret_cast<const std::byte*>(address), row_bytes_);
    }
    return 0;
  }
  const RowId step = kFillPages * layout.pages.rows_per_page;
  for (RowId first = 0; first < rows_; first += step) {
    const RowId end = std::min(rows_, first + step);
    if (const std::int32_t error = fill_rows(layout, first, end, pool, buffers)) return error;
  }
  return 0;
}

/// Rows `first`, the first row of a page, to `end`.
std::int32_t ResidentTable::fill_rows(const TableLayout& layout, RowId first, RowId end,
                                      SlowPool& pool, BufferPool& buffers) {
  // Before the pages are read: a write-back moves a value from the log to its page.
  std::vector<bool> is_updated(end - first);
  for (RowId i = first; i < end; ++i) {
    is_updated[i - first] = pool.find_updated(layout.address({i}), {row(i), row_bytes_});
  }
  // The rows of an item of the batch: those of a page, or an arranged row.
  std::vector<std::vector<RowId>> items;
  FetchBatch batch(pool, buffers, end - first);
  std::uint64_t last_page = 0;
  for (RowId i = first; i < end; ++i) {
    const RowAddress address = layout.address({i});
    if (items.empty() || address.page != last_page) {
      batch.add(address, true);
      items.emplace_back();
    }
    last_page = address.page;
    items.back().push_back(i);
  }
  std::int32_t error = 0;
  batch.read([&](std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t item = from; item < to && error == 0; ++item) {
      error = batch.wait(item);
      if (error != 0) return;
      const std::byte* page = batch.bytes(item) - batch.item(item).row.at;
      for (const RowId i : items[item]) {
        if (is_updated[i - first]) continue;
        std::memcpy(row(i), page + layout.address({i}).at, row_bytes_);
      }
    }
  });
  return error;
}

}  // namespace tieralloc
