// layout.cpp: the fast tiers for a set of tables and a budget, made and installed.
#include "store/layout.hpp"

#include "store/store.hpp"

namespace tieralloc {
namespace {

/// Adds the places of a table's rows, the first of which is `first`.
void append_extents(const TableLayout& table, TierRow first, std::vector<SlowExtent>& extents) {
  if (table.extents == nullptr) {
    extents.push_back({first, table.offset, table.pages, table.arranged_offset(), table.order});
    return;
  }
  for (const RowExtent& extent : *table.extents) {
    extents.push_back({first + extent.first_row, extent.offset, table.pages});
  }
}

}  // namespace

/// Starts a call on a complete layout of the tiers. Repeats if create_table invalidates the layout
/// before the guard exists.
void Store::enter(std::optional<ReadGuard>& guard) {
  do {
    guard.reset();
    ensure_layout();
    guard.emplace(epochs_);
  } while (!layout_ready_.load(std::memory_order_acquire));
}

void Store::ensure_layout() {
  if (layout_ready_.load(std::memory_order_acquire)) return;
  ExclusiveGuard exclusive(epochs_);
  if (!layout_ready_.load(std::memory_order_acquire) && !epochs_.is_closed()) build_tiers();
}

/// By position. A dropped table has no rows.
std::vector<TableLayout> Store::layouts() const {
  std::lock_guard lock(tables_mutex_);
  std::vector<TableLayout> layouts;
  for (const Table& table : tables_) {
    layouts.push_back(table.layout);
    if (table.is_dropped) mark_dropped(layouts.back());
  }
  return layouts;
}

/// For the store's tables and perhaps further ones, which are zero. Makes resident tables that the
/// store does not have yet.
Layout Store::make_layout(const std::vector<TableLayout>& layouts, const FastBudget& budget) {
  Layout made;
  std::optional<NodeScope> scope;
  if (options_.fast_node.node >= 0) scope.emplace(options_.fast_node);
  const FastPlan fast = plan_fast(layouts, budget, policy_);
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const bool has = i < tables_.size() && tables_[i].resident != nullptr &&
                     tables_[i].resident->rows() == layouts[i].rows;
    Layout::Place& place = made.places.emplace_back();
    place.is_resident = fast.is_resident[i];
    if (place.is_resident && !has) {
      place.resident = std::make_unique<ResidentTable>(layouts[i], epochs_);
    }
  }
  for (const TierPlan& plan : fast.tiers) {
    std::vector<SlowExtent> extents;
    TierRow next;
    for (const std::uint32_t i : plan.tables) {
      append_extents(layouts[i], next, extents);
      made.places[i].first_row = next;
      next = next + TableRow{layouts[i].rows};
    }
    made.tiers.push_back(std::make_unique<FastTier>(plan, SlowOffsets(std::move(extents)), policy_,
                                                    options_.seed, epochs_));
    for (const std::uint32_t i : plan.tables) made.places[i].tier = made.tiers.back().get();
    made.capacity += plan.capacity;
  }
  if (scope) made.placement = scope->placement();
  return made;
}

/// Reads the new resident tables. Returns false after it has set tables that cannot be read to
/// Residency::never: then their rows have copies in a tier, and a lookup names the rows that cannot
/// be read. While no thread writes rows.
bool Store::fill_resident(Layout& layout, std::vector<TableLayout>& layouts) {
  bool is_complete = true;
  for (std::size_t i = 0; i < layout.places.size(); ++i) {
    ResidentTable* resident = layout.places[i].resident.get();
    if (resident == nullptr || resident->fill(layouts[i], *pool_, buffers_) == 0) continue;
    layouts[i].residency = Residency::never;
    is_complete = false;
  }
  return is_complete;
}

/// Under an ExclusiveGuard.
void Store::build_tiers() {
  std::vector<TableLayout> layouts = this->layouts();
  Layout layout = make_layout(layouts, budget_);
  while (!fill_resident(layout, layouts)) layout = make_layout(layouts, budget_);
  set_layouts(layouts);
  install(layout);
}

/// Under an ExclusiveGuard: what can change of the tables' layouts.
void Store::set_layouts(const std::vector<TableLayout>& layouts) {
  std::lock_guard lock(tables_mutex_);
  for (Table& table : tables_) {
    const TableLayout& next = layouts[table.position];
    table.layout.residency = next.residency;
    table.layout.reserved_bytes = next.reserved_bytes;
    if (next.rows == 0) table.is_dropped = true;
    if (next.rows == 0 || next.rows == table.layout.rows) continue;
    std::atomic_ref(table.layout.rows).store(next.rows, std::memory_order_relaxed);
    table.layout.offset = next.offset;
    table.layout.order = next.order;
    set_slow_rows(table);
  }
}

void Store::set_slow_rows(Table& table) {
  if (!pool_->in_place()) return;
  const auto address = static_cast<std::uintptr_t>(table.layout.offset);
  table.slow_rows = reinterpret_cast<const std::byte*>(address);
}

/// Under an ExclusiveGuard. `layout` receives the former tiers and resident tables.
void Store::install(Layout& layout) {
  prefetch_queue_.clear();
  for (auto& tier : tiers_) former_counts_.add(tier->counts());
  if (planning_ != nullptr) planning_->parked.clear();  // made for the former tiers
  std::swap(tiers_, layout.tiers);
  if (layout.placement) fast_placement_ = *layout.placement;
  promotion_.restart(layout.capacity);
  for (Table& table : tables_) {
    Layout::Place& place = layout.places[table.position];
    std::swap(table.tier, place.tier);
    std::swap(table.first_tier_row, place.first_row);
    if (place.resident != nullptr || !place.is_resident) std::swap(table.resident, place.resident);
  }
  layout_ready_.store(true, std::memory_order_release);
}

}  // namespace tieralloc
