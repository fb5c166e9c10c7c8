// warm_up.cpp: the resident rows of a store, listed, and brought back into the fast tiers.
//
//   read the rows in file order, a batch at a time, in reads that go on over small gaps
//   then give the rows their eviction order and their standing, some rows per lock
#include <algorithm>

#include "store/store.hpp"

namespace tieralloc {

std::uint64_t Store::store_id() const {
  std::shared_lock open(open_);
  epochs_.check_open();
  return pool_->store_id();
}

std::uint64_t Store::warm_up(std::span<const SavedRow> rows) {
  check_fork();
  std::uint64_t capacity = 0;
  {
    std::optional<ReadGuard> guard;
    enter(guard);
    if (pool_->in_place()) return 0;
    for (auto& tier : tiers_) capacity += tier->capacity();
  }
  if (rows.size() > capacity) rows = rows.last(capacity);
  std::vector<StoreRow> in_file_order;
  for (const SavedRow row : rows) in_file_order.push_back(row.row());
  std::sort(in_file_order.begin(), in_file_order.end());
  std::uint64_t read = 0;
  for (std::size_t at = 0; at < in_file_order.size(); at += Fetcher::kMaxBatchRows) {
    std::optional<ReadGuard> guard;
    enter(guard);  // keeps the tiers
    const auto batch = std::span(in_file_order).subspan(at);
    const std::vector<RowPlace> places =
        absent_rows(batch.first(std::min(Fetcher::kMaxBatchRows, batch.size())));
    fetcher_.prefetch(places, FastTier::Admit::warm_up);
    read += places.size();
  }
  reorder(rows);
  return read;
}

/// The rows, without those that are resident, of a full tier, or of a resident table.
std::vector<RowPlace> Store::absent_rows(std::span<const StoreRow> rows) {
  std::vector<RowPlace> places;
  for (const StoreRow row : rows) {
    const RowPlace place = known_place(row);
    if (place.tier == nullptr || place.tier->find(place.row) != kAbsent) continue;
    places.push_back(place);
  }
  std::erase_if(places, [](const RowPlace& place) {
    std::lock_guard lock(place.tier->mutex());
    return place.tier->is_full();
  });
  return places;
}

/// As place_of; no tier for a row that the store does not have.
RowPlace Store::known_place(StoreRow row) const {
  return row < rows_end() ? place_of(row) : RowPlace{};
}

void Store::reorder(std::span<const SavedRow> rows) {
  for (std::size_t at = 0; at < rows.size(); at += kRowsPerLock) {
    std::optional<ReadGuard> guard;
    enter(guard);
    for (const SavedRow row : rows.subspan(at, std::min(kRowsPerLock, rows.size() - at))) {
      const RowPlace place = known_place(row.row());
      if (place.tier == nullptr) continue;
      std::lock_guard lock(place.tier->mutex());
      place.tier->reinsert(place.row, row.standing());
    }
  }
}

std::vector<SavedRow> Store::resident_rows() {
  check_fork();
  std::lock_guard changing_layout(change_layout_);  // no rows are moving
  std::vector<SavedRow> rows;
  for (const ResidentRow& each : list_residents()) {
    if (SavedRow::can_hold(each.row)) rows.push_back(SavedRow::of(each.row, each.standing));
  }
  return rows;
}

void Store::append_store_rows(const FastTier& tier, std::span<const TierRow> rows,
                              std::vector<StoreRow>& found) const {
  std::vector<const Table*> tables;  // in the order of their tier rows
  for (const Table& table : tables_) {
    if (table.tier == &tier) tables.push_back(&table);
  }
  for (const TierRow row : rows) {
    const auto after = std::upper_bound(
        tables.begin(), tables.end(), row,
        [](TierRow wanted, const Table* table) { return wanted < table->first_tier_row; });
    found.push_back({row.value + (*(after - 1))->store_shift()});
  }
}

/// Of a store that is closed.
void Store::take_resident(std::vector<SavedRow>& rows) {
  for (auto& tier : tiers_) {
    std::vector<RankedRow> ranked;
    tier->take_resident(ranked);
    std::vector<TierRow> listed;
    for (const RankedRow& each : ranked) listed.push_back(each.row);
    std::vector<StoreRow> numbers;
    append_store_rows(*tier, listed, numbers);
    for (std::size_t i = 0; i < ranked.size(); ++i) {
      if (!SavedRow::can_hold(numbers[i])) continue;
      rows.push_back(SavedRow::of(numbers[i], ranked[i].standing));
    }
  }
}

}  // namespace tieralloc
