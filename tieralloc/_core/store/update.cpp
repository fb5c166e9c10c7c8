// update.cpp: new values of rows, one by one (update) or in bulk (load); floats are quantised.
//
//   resident tables: write to the slow tier, then to the copy (fast_tier/resident_table.hpp)
//   file    write to the slow tier (its redo log or its pages); then replace or drop the copies
//   memory  stage copies; wait for readers that may have missed them; write the slow tier; release
//           the copies
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>

#include "store/quantise.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kLoadBatchBytes = std::size_t{4} << 20;
constexpr std::size_t kMaxStagedRows = 256;

/// Calls `visit(i)` for i below `n` under the tier's lock, which is released every few rows.
template <typename Visit>
void each_locked(FastTier& tier, std::size_t n, Visit visit) {
  for (std::size_t i = 0; i < n;) {
    std::lock_guard lock(tier.mutex());
    for (const std::size_t end = std::min(n, i + kRowsPerLock); i < end; ++i) visit(i);
  }
}

}  // namespace

/// A dense row in a buffer of a whole stride, padded with zeros.
class Store::PaddedRow {
 public:
  explicit PaddedRow(const Table& table)
      : bytes_(table.layout.stride), row_bytes_(table.row_bytes()) {}
  const std::byte* operator()(const std::byte* values, std::size_t i) {
    std::memcpy(bytes_.data(), values + i * row_bytes_, row_bytes_);
    return bytes_.data();
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t row_bytes_;
};

void Store::update_floats(const Table& table, Integers indices, const float* values, bool in_bulk) {
  const auto row_of = [&](std::size_t i) { return row_at(table, indices, i); };
  std::vector<std::byte> quantised;
  validate_rows(table, indices, BoundsCheck::fatal);
  quantise(table.layout, values, indices.size, row_of, quantised);
  update(table, indices, quantised.data(), in_bulk);
}

void Store::update(const Table& table, Integers indices, const std::byte* values, bool in_bulk) {
  check_fork();
  validate_rows(table, indices, BoundsCheck::fatal);
  std::vector<TableRow> rows(indices.size);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = row_at(table, indices, i);
  {
    std::lock_guard updating(update_mutex_);
    epochs_.check_open();
    check_live(table);
    PaddedRow padded(table);
    ensure_layout();  // may fail, which the update of copies may not
    update_counters_.reserve(table.position + std::size_t{1});
    const RowPatch patch(table.resident ? rows : std::span<const TableRow>(), values);
    const bool stages = pool_->in_place() && !table.resident;
    if (in_bulk && !stages) {
      pool_->load_rows(table.layout, rows, values);
    } else if (!stages) {
      pool_->update(table.layout, rows, values);
    }
    std::optional<ReadGuard> guard;
    enter(guard);
    if (table.resident) {
      table.resident->write(patch);
    } else if (stages) {
      update_in_place(table, rows, values);
    } else {
      replace_copies(table, rows, values, padded);
    }
    if (!in_bulk) update_counters_.at(table.position).updated_rows.add(rows.size());
  }
  if (in_bulk) return;
  std::shared_lock open(open_);
  if (!epochs_.is_closed()) pool_->commit();  // close wrote the update back
}

/// Waits while readers hold the spare slots, for some microseconds, if a pinned row needs one.
/// Cannot fail: the slow tier has the values.
void Store::replace_copies(const Table& table, std::span<const TableRow> rows,
                           const std::byte* values, PaddedRow& padded) {
  FastTier& tier = *table.tier;
  for (std::size_t i = 0; i < rows.size();) {
    const std::size_t end = std::min(rows.size(), i + kRowsPerLock);
    {
      std::lock_guard lock(tier.mutex());
      while (i < end && tier.update(table.first_tier_row + rows[i], padded(values, i))) ++i;
    }
    if (i < end) std::this_thread::yield();
  }
}

void Store::update_in_place(const Table& table, std::span<const TableRow> rows,
                            const std::byte* values) {
  FastTier& tier = *table.tier;
  while (!rows.empty()) {
    const std::size_t staged = stage(table, rows, values);
    if (staged == 0) {
      std::this_thread::yield();  // readers hold the spare slots
      continue;
    }
    const std::span<const TableRow> written = rows.first(staged);
    epochs_.wait_for_readers();
    pool_->update(table.layout, written, values);
    each_locked(tier, staged,
                [&](std::size_t i) { tier.clean(table.first_tier_row + written[i]); });
    rows = rows.subspan(staged);
    values += staged * table.row_bytes();
  }
}

/// Returns the number of rows that found a slot.
std::size_t Store::stage(const Table& table, std::span<const TableRow> rows,
                         const std::byte* values) {
  FastTier& tier = *table.tier;
  PaddedRow padded(table);
  const std::size_t max_rows = std::min(rows.size(), kMaxStagedRows);
  std::lock_guard lock(tier.mutex());
  std::size_t staged = 0;
  while (staged < max_rows &&
         tier.update(table.first_tier_row + rows[staged], padded(values, staged))) {
    ++staged;
  }
  return staged;
}

/// Calls `load(at, rows)` for rows first + at and on.
template <typename Load>
void Store::each_load_batch(const Table& table, std::uint64_t first, std::uint64_t n, Load load) {
  check_fork();
  const std::uint64_t table_rows = table.num_rows();
  if (first > table_rows || n > table_rows - first) {
    throw std::invalid_argument("table '" + table.layout.name + "': " + std::to_string(n) +
                                " rows from row " + std::to_string(first) +
                                " on do not fit; expected at most " + std::to_string(table_rows) +
                                " rows");
  }
  const PageLayout& pages = table.layout.pages;
  const std::uint64_t batch_rows =
      std::max<std::uint64_t>(1, kLoadBatchBytes / pages.page_bytes) * pages.rows_per_page;
  for (std::uint64_t at = 0; at < n;) {
    // Up to the end of a page, so that only the first and the last page of a load are partial.
    const std::uint64_t end =
        std::min(first + n, (first + at) / pages.rows_per_page * pages.rows_per_page + batch_rows);
    load(at, end - first - at);
    at = end - first;
  }
}

void Store::load(const Table& table, std::uint64_t first, std::uint64_t n,
                 const std::byte* values) {
  each_load_batch(table, first, n, [&](std::uint64_t at, std::uint64_t rows) {
    load_batch(table, {first + at}, rows, values + at * table.row_bytes());
  });
}

void Store::load_floats(const Table& table, std::uint64_t first, std::uint64_t n,
                        const float* values) {
  std::vector<std::byte> quantised;
  each_load_batch(table, first, n, [&](std::uint64_t at, std::uint64_t rows) {
    const auto row_of = [&](std::size_t i) { return TableRow{first + at + i}; };
    quantise(table.layout, values + at * table.layout.dim, rows, row_of, quantised);
    load_batch(table, {first + at}, rows, quantised.data());
  });
}

void Store::load_batch(const Table& table, TableRow first, std::size_t rows,
                       const std::byte* values) {
  std::lock_guard updating(update_mutex_);
  epochs_.check_open();
  check_live(table);
  PaddedRow padded(table);
  if (pool_->in_place()) {
    ExclusiveGuard exclusive(epochs_);
    pool_->load(table.layout, first, rows, values);
    drop_copies(table, first, rows, values, padded);
  } else {
    pool_->load(table.layout, first, rows, values);
    ReadGuard guard(epochs_);
    drop_copies(table, first, rows, values, padded);
  }
}

/// Pinned rows and resident tables keep their copies, with the new values. Cannot fail: the slow
/// tier has the values.
void Store::drop_copies(const Table& table, TableRow first, std::size_t rows,
                        const std::byte* values, PaddedRow& padded) {
  if (table.resident) {
    table.resident->write({first, rows, values});
    return;
  }
  if (table.tier == nullptr) return;
  FastTier& tier = *table.tier;
  const TierRow first_row = table.first_tier_row + first;
  bool has_pinned = false;
  each_locked(tier, rows, [&](std::size_t i) {
    if (!tier.has_copies()) return;
    const TierRow row = first_row + TableRow{i};
    if (tier.is_pinned(row)) {
      has_pinned = true;
    } else {
      tier.discard(row);
    }
  });
  for (std::size_t i = 0; has_pinned && i < rows; ++i) {
    const TableRow row{first.value + i};
    {
      std::lock_guard lock(tier.mutex());
      if (!tier.is_pinned(first_row + TableRow{i})) continue;
    }
    replace_copies(table, {&row, 1}, values + i * table.row_bytes(), padded);
    std::lock_guard lock(tier.mutex());
    tier.clean(first_row + TableRow{i});
  }
}

void Store::settle() {
  check_fork();
  std::shared_lock open(open_);
  epochs_.check_open();
  pool_->settle();
}

}  // namespace tieralloc
