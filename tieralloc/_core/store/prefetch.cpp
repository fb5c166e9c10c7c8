// prefetch.cpp: rows brought to the fast tier on request: prefetches, and pins.
#include <algorithm>
#include <chrono>
#include <unordered_set>

#include "store/store.hpp"

namespace tieralloc {
namespace {

// Of a background thread: enough to keep a device busy, few enough that the reads of a lookup do
// not queue behind them for long.
constexpr std::size_t kPrefetchBatchRows = 64;
constexpr auto kRetryInterval = std::chrono::milliseconds(1);

}  // namespace

std::uint64_t Store::prefetch(const BagCall& request) {
  check_fork();
  validate(request);
  std::optional<ReadGuard> guard;
  enter(guard);
  for (const TableSegment& segment : request.segments) check_live(*segment.table);
  if (!uses_copies()) return 0;
  std::vector<RowPlace> places;
  std::size_t at = 0;
  for (std::size_t i = 0; i < request.segments.size() && request.bags > 0; ++i) {
    const Table& table = *request.segments[i].table;
    const std::size_t end = request.bag_end((i + 1) * request.bags - 1, at);
    if (table.resident) at = end;
    for (; at < end; ++at) {
      const TableRow index{static_cast<RowId>(request.indices[at])};
      if (index.value >= table.layout.rows) continue;
      const TierRow row = table.first_tier_row + index;
      if (table.tier->find(row) == kAbsent) places.push_back({table.tier, row});
    }
  }
  return prefetch_queue_.push(places);
}

/// Whether lookups would find a copy.
bool Store::uses_copies() const {
  return !pool_->in_place() || promotion_.promotes();
}

void Store::prefetch_in_background() {
  while (prefetch_queue_.wait()) {
    try {
      // The guard keeps the tiers; rows of former tiers left the queue with them.
      ReadGuard guard(epochs_);
      const std::vector<RowPlace> rows = prefetch_queue_.take(kPrefetchBatchRows);
      if (pool_->in_place()) {
        promoter_.prefetch(rows);
      } else if (!rows.empty()) {
        fetcher_.prefetch(rows);
      }
    } catch (const std::invalid_argument&) {
      return;  // the store was closed
    } catch (const std::exception&) {
      // Memory is short: the rows are dropped, as a hint may be.
      std::this_thread::sleep_for(kRetryInterval);
    }
  }
}

/// The rows that are not pinned yet, each once.
std::vector<Miss> Store::rows_to_pin(const Table& table, Integers indices) {
  FastTier& tier = *table.tier;
  std::unordered_set<RowId> seen;
  std::vector<Miss> misses;
  std::lock_guard lock(tier.mutex());
  for (std::size_t i = 0; i < indices.size; ++i) {
    const TierRow row = table.first_tier_row + row_at(table, indices, i);
    if (tier.is_pinned(row) || !seen.insert(row.value).second) continue;
    misses.push_back({.tier = &tier, .row = row, .batch = nullptr});
  }
  return misses;
}

void Store::pin(const Table& table, Integers indices) {
  check_fork();
  validate_rows(table, indices, BoundsCheck::fatal);
  std::optional<ReadGuard> guard;
  enter(guard);
  check_live(table);
  if (table.resident) return;
  FastTier& tier = *table.tier;
  std::vector<Miss> misses = rows_to_pin(table, indices);
  {
    std::lock_guard lock(tier.mutex());
    tier.pins().reserve(static_cast<Slot>(misses.size()));
  }
  try {
    RowArena copies;
    if (pool_->in_place()) {
      promoter_.pin(misses);
    } else {
      fetcher_.pin(misses, copies);
    }
  } catch (...) {
    std::lock_guard lock(tier.mutex());
    for (const Miss& miss : misses) {
      if (miss.pin == Miss::Pin::taken) tier.unpin(miss.row);
      if (miss.pin == Miss::Pin::reserved) tier.pins().release();
    }
    throw;
  }
}

void Store::unpin(const Table& table, Integers indices) {
  check_fork();
  validate_rows(table, indices, BoundsCheck::fatal);
  std::optional<ReadGuard> guard;
  enter(guard);
  check_live(table);
  if (table.resident) return;
  std::lock_guard lock(table.tier->mutex());
  for (std::size_t i = 0; i < indices.size; ++i) {
    table.tier->unpin(table.first_tier_row + row_at(table, indices, i));
  }
}

}  // namespace tieralloc
