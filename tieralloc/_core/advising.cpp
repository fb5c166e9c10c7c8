// advising.cpp: what a policy that runs beside the store asks of it, and tells it.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "store.hpp"

namespace tieralloc {
namespace {

// Rows for which a tier's lock is held at a time: some microseconds.
constexpr std::size_t kPiece = 256;

/// Calls `act`, the lock of a tier held, with pieces of the rows of that tier, for all tiers.
template <typename Act>
void for_pieces(std::span<const RowPlace> places, Act act) {
  std::vector<RowId> rows;
  for (std::size_t i = 0; i < places.size();) {
    FastTier& tier = *places[i].tier;
    rows.clear();
    for (; i < places.size() && places[i].tier == &tier && rows.size() < kPiece; ++i) {
      rows.push_back(places[i].row);
    }
    std::lock_guard lock(tier.mutex());
    act(tier, rows);
  }
}

}  // namespace

/// Inside a call. Throws std::out_of_range for a row of no table.
std::vector<RowPlace> Store::places_of(std::span<const RowId> rows) const {
  const RowId end = tables_.empty() ? 0 : tables_.back().number + tables_.back().layout.rows;
  std::vector<RowPlace> places;
  places.reserve(rows.size());
  for (const RowId row : rows) {
    if (row >= end) {
      throw std::out_of_range("row " + std::to_string(row) + " is of no table, expected below " +
                              std::to_string(end));
    }
    const auto after =
        std::upper_bound(tables_.begin(), tables_.end(), row,
                         [](RowId wanted, const Table& table) { return wanted < table.number; });
    const Table& table = *(after - 1);
    places.push_back({table.tier, table.first_row + (row - table.number)});
  }
  return places;
}

PolicyView Store::view() {
  check_fork();
  std::optional<CallGate::Call> call;
  enter(call);
  PolicyView view;
  gate_.each_cell([&](const CallCell& cell) {
    view.lookups += cell.meters->hits.get() + cell.meters->on_demand_fetches.get();
  });
  for (auto& tier : tiers_) {
    std::lock_guard lock(tier->mutex());
    view.tiers.push_back({tier->capacity(), tier->resident_rows(), tier->advised_rows(),
                          tier->counts().evictions, tier->counts().advised_evictions,
                          tier->rows()});
  }
  return view;
}

std::vector<RowId> Store::sample_residents(std::size_t tier, std::size_t draws) {
  check_fork();
  std::optional<CallGate::Call> call;
  enter(call);
  std::vector<RowId> rows;
  if (tier >= tiers_.size()) return rows;
  FastTier& asked = *tiers_[tier];
  while (draws > 0) {
    // A tier that has no more rows than wanted gives them all at once.
    const std::size_t piece = std::min(draws, kPiece);
    std::lock_guard lock(asked.mutex());
    const bool all = draws >= asked.resident_rows();
    asked.sample_residents(all ? draws : piece, rows);
    draws -= all ? draws : piece;
  }
  std::vector<const Table*> tables;
  for (const Table& table : tables_) {
    if (table.tier == &asked) tables.push_back(&table);
  }
  for (RowId& row : rows) {
    const auto after = std::upper_bound(
        tables.begin(), tables.end(), row,
        [](RowId wanted, const Table* table) { return wanted < table->first_row; });
    row += (*(after - 1))->number - (*(after - 1))->first_row;
  }
  return rows;
}

std::size_t Store::advise_evictions(std::span<const RowId> rows, std::size_t most) {
  check_fork();
  std::optional<CallGate::Call> call;
  enter(call);
  std::size_t taken = 0;
  for_pieces(places_of(rows), [&](FastTier& tier, std::span<const RowId> piece) {
    taken += tier.advise_evictions(piece, most - taken);
  });
  return taken;
}

void Store::withdraw_advice(std::span<const RowId> rows) {
  check_fork();
  std::optional<CallGate::Call> call;
  enter(call);
  for_pieces(places_of(rows),
             [](FastTier& tier, std::span<const RowId> piece) { tier.withdraw_advice(piece); });
}

void Store::clear_advice() {
  check_fork();
  std::optional<CallGate::Call> call;
  enter(call);
  for (auto& tier : tiers_) {
    std::lock_guard lock(tier->mutex());
    tier->clear_advice();
  }
}

void Store::find_absent(std::span<const RowId> rows, bool* absent) {
  check_fork();
  std::optional<CallGate::Call> call;
  enter(call);
  for (const RowPlace& place : places_of(rows)) {
    *absent++ = place.tier->index().find(place.row) == kAbsent;
  }
}

std::uint64_t Store::prefetch_rows(std::span<const RowId> rows) {
  check_fork();
  std::optional<CallGate::Call> call;
  enter(call);
  std::vector<RowPlace> places = places_of(rows);
  if (!fetches_ahead()) return 0;
  std::erase_if(
      places, [](const RowPlace& place) { return place.tier->index().find(place.row) != kAbsent; });
  return prefetch_queue_.push(places);
}

void Store::use_policy(const std::string& name) {
  check_fork();
  make_eviction_policy(name, {.capacity = 1, .slots = 1});
  CallGate::Exclusive alone(gate_);
  gate_.check_open();
  for (auto& tier : tiers_) {
    std::lock_guard lock(tier->mutex());
    tier->use_policy(name);
  }
  policy_ = name;
}

}  // namespace tieralloc
