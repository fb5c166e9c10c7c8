// gather_stats.cpp: the statistics of a store, gathered from its parts, and their reset.
#include <optional>

#include "kernels/kernels.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

void add_resident(const ResidentTable& table, StoreStats& stats) {
  ++stats.resident_tables;
  stats.resident_rows += table.rows();
  stats.fast_rows += table.rows();
  stats.vector_bytes += table.bytes();
  stats.huge_page_bytes += huge_page_bytes(table.vectors().data(), table.vectors().size());
}

void add_tier(FastTier& tier, StoreStats& stats) {
  {
    std::lock_guard lock(tier.mutex());
    stats.tiers.add(tier.counts());
    stats.resident_rows += tier.resident_rows();
    stats.pinned_rows += tier.pins().count();
    stats.policy_bytes += tier.planner() == nullptr ? 0 : tier.planner()->bytes();
  }
  stats.fast_rows += tier.capacity();
  stats.vector_bytes += tier.bytes().vectors;
  stats.index_bytes += tier.bytes().index;
  stats.metadata_bytes += tier.bytes().metadata;
  // Not under the lock: reads the kernel's description of all memory of the process.
  stats.huge_page_bytes += huge_page_bytes(tier.vectors().data(), tier.vectors().size());
  const std::string kind = tier.index_kind();
  if (stats.index.empty()) {
    stats.index = kind;
  } else if (stats.index != kind) {
    stats.index = "direct, hash";
  }
}

/// Sets the statistics that follow from others.
template <typename Totals>
void add_lookups(Totals& stats) {
  stats.lookups = stats.hits + stats.on_demand_fetches;
  stats.miss_ratio = stats.lookups == 0 ? 0
                                        : static_cast<double>(stats.on_demand_fetches) /
                                              static_cast<double>(stats.lookups);
}

}  // namespace

TableStats Store::stats_of(const Table& table) const {
  TableStats stats;
  const auto add = [&](const TableCounterSet& set) {
    if (const TableCounters* counters = set.find(table.position)) stats.add(*counters);
  };
  states_.each([&](const CallState& state) { add(state.tables); });
  add(update_counters_);
  add_lookups(stats);
  stats.name = table.layout.name;
  stats.rows = table.layout.rows;
  stats.row_bytes = table.row_bytes();
  const std::uint64_t page_bytes = table.layout.pages.page_bytes;
  stats.bytes = table.layout.num_pages() * page_bytes;
  stats.on_demand_bytes = stats.on_demand_device_reads * page_bytes;
  stats.is_resident = table.resident != nullptr;
  return stats;
}

StoreStats Store::stats() {
  check_fork();
  std::optional<ReadGuard> guard;
  enter(guard);
  StoreStats stats;
  states_.each([&](const CallState& state) {
    stats.add(state.counters);
    if (const AccessRing* ring = state.accesses.load(std::memory_order_acquire)) {
      stats.access_ring_bytes += ring->bytes();
    }
  });
  stats.accesses_dropped = dropped_accesses() - dropped_at_reset_;
  add_lookups(stats);
  stats.kernels = kernel_isa();
  stats.prefetches_dropped = prefetch_queue_.dropped();
  stats.tiers = former_counts_;
  stats.vector_bytes += former_bytes_.load(std::memory_order_relaxed);
  for (auto& tier : tiers_) add_tier(*tier, stats);
  for (const Table& table : tables_) {
    TableStats counts = stats_of(table);
    stats.updated_rows += counts.updated_rows;
    if (table.is_dropped) continue;
    stats.order_bytes += table.layout.order_bytes();
    if (table.resident) add_resident(*table.resident, stats);
    stats.tables.push_back(std::move(counts));
  }
  const UpdateStats updates = pool_->updates();
  stats.dirty_rows = updates.dirty_rows;
  stats.unsynced_bytes = updates.unsynced_bytes;
  stats.write_backs = updates.write_backs - updates_at_reset_.write_backs;
  stats.write_back_errors = updates.write_back_errors - updates_at_reset_.write_back_errors;
  stats.page_errors = updates.page_errors - updates_at_reset_.page_errors;
  stats.write_back_error = updates.write_back_error;
  stats.log_bytes = updates.log_bytes;
  stats.staging_bytes = buffers_.bytes() + pool_->buffer_bytes();
  stats.page_cache_bytes = pool_->cached_bytes() + updates.unsynced_bytes;
  stats.total_bytes = stats.vector_bytes + stats.index_bytes + stats.metadata_bytes +
                      stats.order_bytes + stats.staging_bytes + stats.log_bytes +
                      stats.access_ring_bytes + stats.policy_bytes + stats.page_cache_bytes;
  stats.slow = {.kind = pool_->kind(),
                .path = pool_->path(),
                .engine = pool_->engine(),
                .bytes = pool_->bytes(),
                .in_place = pool_->in_place(),
                .memory = pool_->memory(),
                .admission = promotion_.stats()};
  stats.fast_placement = fast_placement_;
  stats.background_cpus = options_.cpus;
  return stats;
}

std::string Store::write_back_error() const {
  check_fork();
  std::shared_lock open(open_);
  epochs_.check_open();
  return pool_->updates().write_back_error;
}

void Store::reset_stats() {
  check_fork();
  ExclusiveGuard exclusive(epochs_);
  epochs_.check_open();
  states_.each([&](CallState& state) {
    state.counters.clear();
    state.tables.clear();
  });
  update_counters_.clear();
  for (auto& tier : tiers_) tier->clear_counts();
  former_counts_ = {};
  updates_at_reset_ = pool_->updates();
  dropped_at_reset_ = dropped_accesses();
  prefetch_queue_.clear_dropped();
}

}  // namespace tieralloc
