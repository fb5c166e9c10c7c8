// store.cpp: a store's tables, the division of its DRAM among them, its figures, its beginning and
// end.
#include "store/store.hpp"

#include <algorithm>
#include <stdexcept>

#include "base/error.hpp"
#include "base/fork_guard.hpp"
#include "base/numa/cpus.hpp"
#include "base/numa/nodes.hpp"
#include "base/thread_class.hpp"
#include "kernels/kernels.hpp"
#include "slow_tier/memory/costs.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kIdleBuffers = std::size_t{4} << 20;

/// What a store that was asked for in vain would leave behind is settled first: the options that go
/// with this pool.
StoreOptions fitted(StoreOptions options, const SlowPool& pool) {
  options.budget.in_place = pool.in_place();
  Store::check(options);
  if (!pool.in_place() && options.admission != AdmissionRule::automatic) {
    throw std::invalid_argument(
        "admission goes with a slow tier in memory, whose rows can be read in place; rows of a " +
        pool.kind() + " are copied always");
  }
  const int node = pool.memory().placement.node;
  if (options.cpus.empty() && node >= 0) options.cpus = cpus_for_node(node);
  return options;
}

}  // namespace

void Store::check(const StoreOptions& options) {
  make_eviction_policy(options.policy, {.capacity = 1, .slots = 1});
  check_budget(options.budget, options.policy);
  if (options.fast_node.node >= 0) (void)usable_node(options.fast_node.node);
  check_cpus(options.cpus);
}

/// Throws MemoryShortage where the node that the fast tiers are bound to cannot hold them.
void Store::check_fast_memory(const std::vector<TierPlan>& plans, std::uint64_t held) const {
  check_memory(plans, policy_, held);
  if (options_.fast_node.node < 0 || options_.fast_node.prefer) return;
  std::uint64_t bytes = 0;
  for (const TierPlan& plan : plans) bytes += tier_bytes(plan, policy_).total();
  if (bytes > held) check_node_memory(options_.fast_node.node, bytes - held, "fast tier");
}

Store::Store(std::unique_ptr<SlowPool> pool, const StoreOptions& options)
    : pool_(std::move(pool)),
      options_(fitted(options, *pool_)),
      policy_(options.policy),
      admission_(options.admission,
                 pool_->in_place() ? measure_line_costs(*pool_, options_.fast_node) : LineCosts{}),
      promoter_(*pool_, admission_),
      buffers_(kIdleBuffers),
      fetcher_(*pool_, buffers_),
      prefetch_queue_(options.prefetch_queue),
      forks_at_birth_(fork_count()) {
  const std::vector<TableLayout> layouts = pool_->tables();
  check_fast_memory(plan_tiers(layouts, options_.budget, options_.policy), 0);
  for (const TableLayout& layout : layouts) {
    append_table(layout);
  }
  try {
    threads_.emplace_back([this] {
      pin_this_thread(options_.cpus);
      yield_to_serving();
      clean_in_background();
    });
    for (unsigned i = 0; i < std::max(1u, options_.prefetch_threads); ++i) {
      threads_.emplace_back([this] {
        pin_this_thread(options_.cpus);
        yield_to_serving();
        prefetch_in_background();
      });
    }
  } catch (...) {
    stop_threads();
    throw;
  }
}

Store::~Store() {
  try {
    close();
  } catch (const std::exception&) {
    gate_.close();
  }
  stop_threads();
}

bool Store::belongs_here() const {
  return fork_count() == forks_at_birth_;
}

void Store::check_fork() const {
  if (belongs_here()) return;
  throw std::invalid_argument(
      "this store belongs to the parent process; a forked child must open a store of its own, "
      "and of another file");
}

const Table& Store::create_table(const std::string& name, std::uint64_t rows, std::uint32_t dim,
                                 DType dtype) {
  check_fork();
  const std::string seen = name.substr(0, name.find('\0'));
  if (name.empty() || name.size() > kMaxTableName || seen.size() < name.size()) {
    throw std::invalid_argument("name is '" + seen + "'" +
                                (seen.size() < name.size() ? " and a NUL byte" : "") +
                                ", expected 1 to 191 bytes without NUL");
  }
  if (rows == 0 || dim == 0) {
    throw std::invalid_argument("table '" + name + "': expected at least one row and dim, got " +
                                std::to_string(rows) + " rows of dim " + std::to_string(dim));
  }
  if (rows > kMostRows || dim > kMostDim) {
    throw std::invalid_argument("table '" + name +
                                "': expected at most 2**48 rows and dim 2**20, got " +
                                std::to_string(rows) + " rows of dim " + std::to_string(dim));
  }
  const std::uint32_t stride = stride_of(dim, dtype);
  if (rows > kMostBytes / stride) {
    throw std::invalid_argument("table '" + name + "': expected at most 2**62 bytes, got " +
                                std::to_string(rows) + " rows of " + std::to_string(stride));
  }
  CallGate::Exclusive alone(gate_);
  gate_.check_open();
  std::vector<TableLayout> layouts = pool_->tables();
  for (const TableLayout& layout : layouts) {
    if (layout.name == name) throw std::invalid_argument("table '" + name + "' exists already");
  }
  TableLayout layout{
      .name = name, .rows = rows, .dim = dim, .dtype = dtype, .stride = stride, .offset = 0};
  layouts.push_back(layout);
  std::uint64_t held = 0;
  for (auto& tier : tiers_) held += tier->bytes().total();
  check_fast_memory(plan_tiers(layouts, options_.budget, policy_), held);
  // Dirty rows go home before their tier goes; a failure here leaves everything as it was.
  for (auto& tier : tiers_) write_back_all(*tier);
  layout = pool_->add_table(layout);
  layout_ready_.store(false, std::memory_order_release);
  std::lock_guard lock(tables_mutex_);
  return append_table(layout);
}

const Table& Store::append_table(const TableLayout& layout) {
  const auto position = static_cast<std::uint32_t>(tables_.size());
  const RowId number = tables_.empty() ? 0 : tables_.back().number + tables_.back().layout.rows;
  tables_.push_back({.layout = layout, .position = position, .number = number});
  if (pool_->in_place()) {
    tables_.back().home =
        reinterpret_cast<const std::byte*>(static_cast<std::uintptr_t>(layout.offset));
  }
  return tables_.back();
}

std::vector<const Table*> Store::tables() const {
  std::lock_guard lock(tables_mutex_);
  std::vector<const Table*> tables;
  for (const Table& table : tables_) tables.push_back(&table);
  return tables;
}

/// Begins a call that finds the tables laid out and keeps them so: create_table may take the layout
/// away between the two.
void Store::enter(std::optional<CallGate::Call>& call) {
  do {
    call.reset();
    ensure_layout();
    call.emplace(gate_);
  } while (!layout_ready_.load(std::memory_order_acquire));
}

void Store::ensure_layout() {
  if (layout_ready_.load(std::memory_order_acquire)) return;
  CallGate::Exclusive alone(gate_);
  if (!layout_ready_.load(std::memory_order_acquire) && !gate_.closed()) build_tiers();
}

void Store::build_tiers() {
  std::vector<TableLayout> layouts;
  for (const Table& table : tables_) layouts.push_back(table.layout);
  std::vector<std::unique_ptr<FastTier>> tiers;
  std::uint64_t capacity = 0;
  std::optional<NodeScope> scope;
  if (options_.fast_node.node >= 0) scope.emplace(options_.fast_node);
  for (const TierPlan& plan : plan_tiers(layouts, options_.budget, policy_)) {
    std::vector<RowHome> homes;
    RowId next = 0;
    for (const TableLayout& layout : layouts) {
      if (layout.stride != plan.stride) continue;
      homes.push_back({next, layout.offset});
      next += layout.rows;
    }
    tiers.push_back(
        std::make_unique<FastTier>(plan, std::move(homes), policy_, options_.seed, gate_));
    capacity += plan.capacity;
  }
  drop_tiers();
  tiers_ = std::move(tiers);
  if (scope) fast_placement_ = scope->placement();
  admission_.begin(capacity);
  for (auto& tier : tiers_) {
    RowId next = 0;
    for (Table& table : tables_) {
      if (table.layout.stride != tier->stride()) continue;
      table.tier = tier.get();
      table.first_row = next;
      next += table.layout.rows;
    }
  }
  layout_ready_.store(true, std::memory_order_release);
}

/// Their rows are home: create_table wrote them back before it asked for a new layout, and without
/// one nobody updates.
void Store::drop_tiers() {
  prefetch_queue_.clear();
  for (auto& tier : tiers_) former_counts_.add(tier->counts());
  if (planning_ != nullptr) planning_->parked.clear();  // made for these
  tiers_.clear();
}

void Store::flush() {
  check_fork();
  // What is dirty now goes home beside serving; what is updated meanwhile may take its turn …
  write_back_most();
  {
    // … so the rest, a few rows, goes while nobody updates.
    CallGate::Exclusive alone(gate_);
    gate_.check_open();
    for (auto& tier : tiers_) write_back_all(*tier);
  }
  CallGate::Call call(gate_);
  pool_->sync();
  pool_->drop_caches();
}

void Store::close() {
  check_fork();
  std::lock_guard changing(use_policy_);
  stop_planning();
  try {
    CallGate::Exclusive alone(gate_);
    if (gate_.closed()) return;
    for (auto& tier : tiers_) write_back_all(*tier);
    pool_->sync();
    pool_->drop_caches();
    gate_.close();
  } catch (...) {
    start_planning();  // the store stays open
    throw;
  }
  stop_threads();
  tiers_.clear();
  pool_.reset();  // its lock goes with it: the file may be opened again
}

void Store::stop_threads() {
  prefetch_queue_.stop();
  {
    std::lock_guard lock(cleaner_mutex_);
    stopping_ = true;
  }
  cleaner_wake_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

namespace {

void add_tier(FastTier& tier, StoreStats& stats) {
  {
    std::lock_guard lock(tier.mutex());
    stats.tiers.add(tier.counts());
    stats.resident_rows += tier.resident_rows();
    stats.pinned_rows += tier.pinned_rows();
    stats.dirty_rows += tier.dirty_rows();
    stats.policy_bytes += tier.planner() == nullptr ? 0 : tier.planner()->bytes();
  }
  stats.fast_rows += tier.capacity();
  stats.vector_bytes += tier.bytes().vectors;
  stats.index_bytes += tier.bytes().index;
  stats.metadata_bytes += tier.bytes().metadata;
  // Reads what the kernel says of all the process's memory: not under the lock.
  stats.huge_page_bytes += huge_page_bytes(tier.vectors().data(), tier.vectors().size());
  const std::string kind = tier.index().kind();
  if (stats.index.empty()) {
    stats.index = kind;
  } else if (stats.index != kind) {
    stats.index = "direct, hash";
  }
}

}  // namespace

StoreStats Store::stats() {
  check_fork();
  std::optional<CallGate::Call> call;
  enter(call);
  StoreStats stats;
  gate_.each_cell([&](const CallCell& cell) {
    stats.add(*cell.meters);
    if (const AccessRing* ring = cell.accesses.load(std::memory_order_acquire)) {
      stats.access_ring_bytes += ring->bytes();
    }
  });
  stats.accesses_dropped = dropped_accesses() - dropped_at_reset_;
  stats.lookups = stats.hits + stats.on_demand_fetches;
  stats.miss_ratio = stats.lookups == 0 ? 0
                                        : static_cast<double>(stats.on_demand_fetches) /
                                              static_cast<double>(stats.lookups);
  stats.kernels = kernel_isa();
  stats.updated_rows = updates_.load(std::memory_order_relaxed);
  stats.prefetches_dropped = prefetch_queue_.dropped();
  stats.tiers = former_counts_;
  for (auto& tier : tiers_) add_tier(*tier, stats);
  stats.staging_bytes = buffers_.bytes();
  stats.page_cache_bytes = pool_->cached_bytes();
  stats.total_bytes = stats.vector_bytes + stats.index_bytes + stats.metadata_bytes +
                      stats.staging_bytes + stats.access_ring_bytes + stats.policy_bytes +
                      stats.page_cache_bytes;
  stats.slow = {.kind = pool_->kind(),
                .path = pool_->path(),
                .engine = pool_->engine(),
                .bytes = pool_->bytes(),
                .in_place = pool_->in_place(),
                .memory = pool_->memory(),
                .admission = admission_.view()};
  stats.fast_placement = fast_placement_;
  stats.background_cpus = options_.cpus;
  std::lock_guard lock(error_mutex_);
  stats.write_back_error = write_back_error_;
  return stats;
}

void Store::reset_stats() {
  check_fork();
  CallGate::Exclusive alone(gate_);
  gate_.check_open();
  gate_.each_cell([](CallCell& cell) { cell.meters->clear(); });
  for (auto& tier : tiers_) tier->clear_counts();
  former_counts_ = {};
  dropped_at_reset_ = dropped_accesses();
  prefetch_queue_.clear_dropped();
  updates_.store(0, std::memory_order_relaxed);
}

}  // namespace tieralloc
