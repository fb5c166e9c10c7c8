// resize.cpp: another budget for the fast tiers, while calls go on.
//
//   make the new tiers, which begin empty; read tables that become resident
//   exclude calls for a moment: install the tiers, move the pinned rows
//   of each former tier, in the order of its memory: move the rows, and give the memory back
//   then give the rows their eviction order
//
// Until a row has moved, a call that needs it moves it, or copies it where it is
// (fast_tier/former_rows.hpp). So resident rows cost no read of the slow tier, and the vectors of
// both tiers together take little more memory than the larger ones.
#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/error.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

constexpr Slot kSlotsPerGuard = 1024;
constexpr int kAttempts = 16;  // then rows for which readers leave no slot are not kept

/// Calls `visit(row)` for each pinned row. Without calls.
template <typename Visit>
void each_pinned(FastTier& tier, Visit visit) {
  if (tier.pins().count() == 0) return;
  for (Slot slot = 0; slot < tier.slots(); ++slot) {
    const TierRow row = tier.resident_row(slot);
    if (row.value != kNoRow && tier.is_pinned(row)) visit(row);
  }
}

/// The new places of the pinned rows.
std::vector<Relocation::Place> pinned_rows(const Relocation& relocation,
                                           std::span<const std::unique_ptr<FastTier>> tiers) {
  std::vector<Relocation::Place> pinned;
  for (auto& from : tiers) {
    each_pinned(*from, [&](TierRow row) {
      const Relocation::Place place = relocation.find(from.get(), row);
      if (place.tier != nullptr) pinned.push_back(place);
    });
  }
  return pinned;
}

/// Throws std::invalid_argument if the pinned rows are too many for their new tiers.
void check_pins(std::span<const Relocation::Place> pinned) {
  std::unordered_map<FastTier*, Slot> count;
  for (const Relocation::Place& place : pinned) ++count[place.tier];
  for (const auto& [tier, rows] : count) {
    if (rows <= tier->pins().max()) continue;
    throw std::invalid_argument("fast tier: too small for the pinned rows; expected at most " +
                                std::to_string(tier->pins().max()) + " of them in " +
                                tier->pins().tier() + ", got " + std::to_string(rows));
  }
}

/// The places in each new tier for the rows of a former one that its policy held, those that have
/// moved by now included.
std::unordered_map<FastTier*, Slot> room_for(const Relocation& relocation, FastTier& from,
                                             std::span<const Slot> order) {
  std::unordered_map<FastTier*, Slot> room;
  for (const RowRange& range : relocation.ranges) {
    if (range.from != &from || room.contains(range.to)) continue;
    std::lock_guard lock(range.to->mutex());
    room[range.to] = range.to->capacity() - range.to->resident_rows();
  }
  for (const Slot slot : order) {
    if (from.resident_row(slot).value != kNoRow) continue;
    FastTier* to = relocation.find(&from, from.drained_row(slot)).tier;
    if (to != nullptr) ++room[to];
  }
  return room;
}

/// The rows of a former tier that stay, by slot: as many as fit, the next victims excluded.
std::vector<bool> choose_kept(const Relocation& relocation, FastTier& from,
                              std::span<const Slot> order) {
  std::vector<bool> is_kept(from.slots());
  std::unordered_map<FastTier*, Slot> room = room_for(relocation, from, order);
  for (auto slot = order.rbegin(); slot != order.rend(); ++slot) {
    FastTier* to = relocation.find(&from, from.drained_row(*slot)).tier;
    if (to == nullptr || room[to] == 0) continue;
    --room[to];
    is_kept[*slot] = true;
  }
  return is_kept;
}

/// Calls `visit(to, row, at)` for the new places of the rows `row_of(at)`, at < n, that have one,
/// under the lock of the tier, which is released every few rows.
template <typename RowOf, typename Visit>
void each_relocated(const Relocation& relocation, FastTier& from, std::size_t n, RowOf row_of,
                    Visit visit) {
  std::unique_lock<std::mutex> lock;
  for (std::size_t at = 0; at < n; ++at) {
    const Relocation::Place place = relocation.find(&from, row_of(at));
    if (place.tier == nullptr) continue;
    if (lock.mutex() != &place.tier->mutex() || at % kRowsPerLock == 0) {
      if (lock) lock.unlock();
      lock = std::unique_lock(place.tier->mutex());
    }
    visit(*place.tier, place.row, at);
  }
}

std::uint64_t bytes_kept(const Relocation& relocation) {
  std::uint64_t bytes = 0;
  for (auto& tier : relocation.tiers) {
    bytes += tier->kept_bytes() + tier->bytes().index + tier->bytes().metadata;
  }
  return bytes;
}

}  // namespace

void Store::resize(const FastBudget& wanted) {
  FastBudget budget = wanted;
  budget.in_place = budget_.in_place;
  budget.none = budget.bytes == 0 && budget.rows == 0;
  change_layout([&] {
    {
      ReadGuard guard(epochs_);
      check_budget(budget, policy_, held_bytes());
    }
    return replace_layout(budget, layouts());
  });
}

void Store::reserve(const Table& table, std::uint64_t bytes) {
  change_layout([&] {
    check_live(table);
    std::vector<TableLayout> layouts = this->layouts();
    layouts[table.position].reserved_bytes = bytes;
    return replace_layout(budget_, std::move(layouts));
  });
}

/// Calls `change` with the locks of a new layout; then moves the rows of the tiers that it
/// replaced. If `change` fails, nothing has changed.
void Store::change_layout(const std::function<Relocation()>& change) {
  check_fork();
  std::lock_guard changing_layout(change_layout_);
  Relocation relocation;
  {
    std::lock_guard changing(use_policy_);
    std::lock_guard updating(update_mutex_);
    epochs_.check_open();
    relocation = change();
  }
  move_rows(relocation);
}

/// Bytes of the fast tiers and tables in DRAM, which a new layout takes in the end. Until all rows
/// have moved, index and metadata are there twice. With a ReadGuard or a complete layout: the first
/// call makes the tiers.
std::uint64_t Store::held_bytes() const {
  std::uint64_t held = 0;
  for (auto& tier : tiers_) {
    held += tier->bytes().vectors + tier->bytes().index + tier->bytes().metadata;
  }
  for (const Table& table : tables_) {
    if (table.is_dropped) continue;
    held += table.layout.order_bytes() + (table.resident ? table.resident->bytes() : 0);
  }
  return held;
}

/// With `change_layout_`, `use_policy_` and `update_mutex_`. Gives the table `changed`, if it is
/// not null, its new layout; without rows, drops it. Adds the last table, if it is not the store's
/// yet. A failure changes nothing.
Relocation Store::replace_layout(const FastBudget& budget, std::vector<TableLayout> layouts,
                                 Table* changed) {
  Relocation relocation;
  without_planner([&] {
    ensure_layout();
    check_fast_memory(plan_fast(layouts, budget, policy_), held_bytes());
    Layout next = make_layout(layouts, budget);
    while (!fill_resident(next, layouts)) next = make_layout(layouts, budget);
    relocation = install_keeping_rows(next, budget, layouts, changed);
  });
  return relocation;
}

Relocation Store::install_keeping_rows(Layout& next, const FastBudget& budget,
                                       const std::vector<TableLayout>& layouts, Table* changed) {
  auto planned = make_planned(next);
  Relocation relocation;
  for (const Table& table : tables_) {
    const Layout::Place& place = next.places[table.position];
    if (table.tier == nullptr || place.tier == nullptr) continue;
    relocation.add({table.tier, table.first_tier_row, place.tier, place.first_row,
                    std::min(table.layout.rows, layouts[table.position].rows)});
  }
  relocation.sort();
  for (auto& tier : next.tiers) tier->set_former(relocation.former_of(tier.get()));
  std::unique_lock<std::shared_mutex> open;
  if (changed != nullptr) {
    change_in_pool(relocation, *changed, layouts[changed->position]);
    open = std::unique_lock(open_);  // no scan of its pages is left
  }
  ExclusiveGuard exclusive(epochs_);
  const std::vector<Relocation::Place> pinned = pinned_rows(relocation, tiers_);
  if (changed == nullptr) check_pins(pinned);
  const bool is_paused = planning_ != nullptr && !planning_->parked.empty();
  budget_ = budget;
  if (layouts.size() > tables_.size()) append_table(layouts.back());
  set_layouts(layouts);
  if (changed != nullptr) renumber_tables();
  install(next);
  adopt_planned(std::move(planned), is_paused);
  relocation.tiers = std::move(next.tiers);
  former_bytes_ = bytes_kept(relocation);
  for (const Relocation::Place& place : pinned) {
    std::lock_guard lock(place.tier->mutex());
    place.tier->find_or_adopt(place.row);
    if (place.tier->pins().count() == place.tier->pins().max()) continue;
    place.tier->pins().reserve(1);
    place.tier->pin(place.row);
  }
  return relocation;
}

/// Grows or drops the table in the slow tier. Pinned rows must fit; if a table is dropped, those
/// that do not are unpinned.
void Store::change_in_pool(const Relocation& relocation, const Table& table,
                           const TableLayout& next) {
  if (next.rows == 0) {
    pool_->remove_table(table.layout);
    return;
  }
  {
    ExclusiveGuard exclusive(epochs_);
    check_pins(pinned_rows(relocation, tiers_));
  }
  pool_->grow_table(table.layout, next);
}

/// With `change_layout_`, which keeps the tiers. If memory is short, rows stay behind.
void Store::move_rows(Relocation& relocation) {
  try {
    for (auto& from : relocation.tiers) {
      std::vector<Slot> order;
      from->drain(order);
      const std::vector<bool> is_kept = choose_kept(relocation, *from, order);
      move_slots(relocation, *from, is_kept);
      former_bytes_ = bytes_kept(relocation);
      reorder_moved(relocation, *from, order, is_kept);
    }
  } catch (const std::bad_alloc&) {
  }
  for (auto& tier : tiers_) {
    std::lock_guard lock(tier->mutex());
    tier->set_former({});
  }
  relocation.tiers.clear();
  former_bytes_ = 0;
}

void Store::move_slots(const Relocation& relocation, FastTier& from, std::vector<bool> is_kept) {
  for (Slot first = 0; first < from.slots(); first += kSlotsPerGuard) {
    const Slot end = std::min(from.slots(), first + kSlotsPerGuard);
    for (int attempt = 1; !move_range(relocation, from, first, end, is_kept); ++attempt) {
      epochs_.wait_for_readers();  // the slots that they held are free now
      if (attempt == kAttempts) std::fill(is_kept.begin() + first, is_kept.begin() + end, false);
    }
    from.release_below(end);
  }
}

/// False if rows that are kept stay behind, for want of slots.
bool Store::move_range(const Relocation& relocation, FastTier& from, Slot first, Slot end,
                       const std::vector<bool>& is_kept) {
  bool is_done = true;
  ReadGuard guard(epochs_);  // no change of policy
  each_relocated(
      relocation, from, end - first,
      [&](std::size_t at) { return from.resident_row(first + static_cast<Slot>(at)); },
      [&](FastTier& to, TierRow row, std::size_t at) {
        if (!to.take_over(row, is_kept[first + at])) is_done = false;
      });
  return is_done;
}

void Store::reorder_moved(const Relocation& relocation, FastTier& from, std::span<const Slot> order,
                          const std::vector<bool>& is_kept) {
  for (std::size_t first = 0; first < order.size(); first += kSlotsPerGuard) {
    const std::size_t n = std::min<std::size_t>(kSlotsPerGuard, order.size() - first);
    ReadGuard guard(epochs_);
    each_relocated(
        relocation, from, n, [&](std::size_t at) { return from.drained_row(order[first + at]); },
        [&](FastTier& to, TierRow row, std::size_t at) {
          if (is_kept[order[first + at]] && to.needs_touches()) to.reinsert(row);
        });
  }
}

}  // namespace tieralloc
