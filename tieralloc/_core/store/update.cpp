// update.cpp: new values of rows, one by one (update) or in bulk past the fast tier (load).
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "store/store.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kLoadBatchBytes = std::size_t{4} << 20;

/// A dense row in a buffer of a whole stride, padded with zeros.
class PaddedRow {
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

}  // namespace

void Store::update(const Table& table, Integers indices, const std::byte* values) {
  check_fork();
  validate_rows(table, indices, BoundsCheck::fatal);
  std::optional<ReadGuard> guard;
  enter(guard);
  PaddedRow padded(table);
  for (std::size_t i = 0; i < indices.size; ++i) {
    store_row(table, row_at(table, indices, i), padded(values, i));
    updates_.fetch_add(1, std::memory_order_relaxed);
  }
  wake_write_back(*table.tier);
}

/// Waits for a slot if need be: unlike a lookup, an update has no other place for its value.
void Store::store_row(const Table& table, TableRow row, const std::byte* bytes) {
  FastTier& tier = *table.tier;
  while (true) {
    {
      std::lock_guard lock(tier.mutex());
      if (tier.store(table.first_tier_row + row, bytes)) return;
    }
    make_room(tier);
  }
}

/// For a caller that found no free slot: either victims hold the spare slots, or readers do, for
/// some microseconds.
void Store::make_room(FastTier& tier) {
  if (write_back_batch(tier, false) == 0) std::this_thread::yield();
}

void Store::load(const Table& table, std::uint64_t first, std::uint64_t n,
                 const std::byte* values) {
  check_fork();
  if (first > table.layout.rows || n > table.layout.rows - first) {
    throw std::invalid_argument("table '" + table.layout.name + "': " + std::to_string(n) +
                                " rows from row " + std::to_string(first) +
                                " on do not fit; expected at most " +
                                std::to_string(table.layout.rows) + " rows");
  }
  const std::size_t stride = table.layout.stride;
  const std::size_t batch_rows = std::max<std::size_t>(1, kLoadBatchBytes / stride);
  std::vector<std::byte> batch(batch_rows * stride);
  for (std::uint64_t at = 0; at < n; at += batch_rows) {
    const std::size_t rows = std::min<std::uint64_t>(batch_rows, n - at);
    for (std::size_t i = 0; i < rows; ++i) {
      std::memcpy(batch.data() + i * stride, values + (at + i) * table.row_bytes(),
                  table.row_bytes());
    }
    ExclusiveGuard exclusive(epochs_);
    epochs_.check_open();
    std::lock_guard writing(write_back_mutex_);
    const TableRow first_row{first + at};
    pool_->write(table.offset_of(first_row), {batch.data(), rows * stride});
    count_written(rows * stride);
    if (table.tier == nullptr) continue;
    FastTier& tier = *table.tier;
    std::lock_guard lock(tier.mutex());
    for (std::size_t i = 0; i < rows && tier.resident_rows() + tier.dirty().num_victims() > 0;
         ++i) {
      const TableRow row{first_row.value + i};
      tier.replace(table.first_tier_row + row, batch.data() + i * stride);
    }
  }
}

void Store::settle() {
  check_fork();
  ReadGuard guard(epochs_);
  std::lock_guard writing(write_back_mutex_);
  pool_->drop_caches();
  written_bytes_ = 0;
}

}  // namespace tieralloc
