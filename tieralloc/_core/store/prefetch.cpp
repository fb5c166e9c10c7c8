// prefetch.cpp: rows brought to the fast tier because somebody says that they will be needed, or
// must stay there.
#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <unordered_set>

#include "store/store.hpp"

namespace tieralloc {
namespace {

// A background thread's batch: enough to keep a device busy, few enough that a lookup's reads do
// not queue behind it for long.
constexpr std::size_t kPrefetchRows = 64;

}  // namespace

std::uint64_t Store::prefetch(const BagCall& request) {
  check_fork();
  validate(request);
  std::optional<ReadGuard> guard;
  enter(guard);
  if (!prefetches_pay()) return 0;
  std::vector<RowPlace> places;
  for (std::size_t part = 0; part < request.parts.size() && request.bags > 0; ++part) {
    const Table& table = *request.parts[part].table;
    const std::size_t first = part * request.bags;
    const std::size_t end =
        std::min(request.bag_end(first + request.bags - 1), request.indices.size);
    for (std::size_t i = request.bag_begin(first); i < end; ++i) {
      const auto row = static_cast<std::uint64_t>(request.indices[i]);
      if (row >= table.layout.rows) continue;
      const TierRow wanted = table.first_row + TableRow{row};
      if (table.tier->find(wanted) == kAbsent) places.push_back({table.tier, wanted});
    }
  }
  return prefetch_queue_.push(places);
}

/// Whether a copy made ahead would be looked for.
bool Store::prefetches_pay() const {
  return !pool_->in_place() || admission_.admits();
}

void Store::prefetch_in_background() {
  while (prefetch_queue_.wait()) {
    try {
      // Inside a call a tier stays; rows of tiers that are gone have left the queue with them.
      ReadGuard guard(epochs_);
      const std::vector<RowPlace> rows = prefetch_queue_.take(kPrefetchRows);
      if (pool_->in_place()) {
        promoter_.prefetch(rows);
      } else if (!rows.empty()) {
        fetcher_.prefetch(rows);
      }
      for (const RowPlace& row : rows) wake_cleaner(*row.tier);
    } catch (const std::invalid_argument&) {
      return;  // closed
    } catch (const std::exception&) {
      // No memory: the rows are forgotten, as a hint may be.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
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
    const TierRow row = table.first_row + row_at(table, indices, i);
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
  FastTier& tier = *table.tier;
  std::vector<Miss> misses = rows_to_pin(table, indices);
  {
    std::lock_guard lock(tier.mutex());
    tier.pins().reserve(static_cast<Slot>(misses.size()));
  }
  try {
    RowArena held;
    if (pool_->in_place()) {
      promoter_.pin(misses, [&] { make_room(tier); });
    } else {
      fetcher_.pin(misses, held, [&] { make_room(tier); });
    }
  } catch (...) {
    std::lock_guard lock(tier.mutex());
    for (const Miss& miss : misses) {
      if (miss.pin == Miss::Pin::taken) tier.unpin(miss.row);
      if (miss.pin == Miss::Pin::reserved) tier.pins().release();
    }
    throw;
  }
  wake_cleaner(tier);
}

void Store::unpin(const Table& table, Integers indices) {
  check_fork();
  validate_rows(table, indices, BoundsCheck::fatal);
  std::optional<ReadGuard> guard;
  enter(guard);
  std::lock_guard lock(table.tier->mutex());
  for (std::size_t i = 0; i < indices.size; ++i) {
    table.tier->unpin(table.first_row + row_at(table, indices, i));
  }
}

}  // namespace tieralloc
