// store.cpp: tables, layout of the fast tiers, opening and closing of a store.
#include "store/store.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "base/error.hpp"
#include "base/fork_guard.hpp"
#include "base/numa/cpus.hpp"
#include "base/numa/nodes.hpp"
#include "base/thread_class.hpp"
#include "slow_tier/memory/costs.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kMaxIdleBufferBytes = std::size_t{4} << 20;

std::string power_of_2(std::uint64_t value) {
  return "2**" + std::to_string(std::countr_zero(value));
}

/// Sets the numbers of the order, if there is one.
void check_order(TableLayout& table, const SlowPool& pool) {
  if (table.order == nullptr) return;
  if (pool.in_place()) {
    throw std::invalid_argument("order: table '" + table.name +
                                "': rows of memory are read in place; expected a slow tier in a "
                                "file, which is read by pages");
  }
  table.arranged_rows = table.order->num_rows();
  table.arranged_pages = table.order->num_pages();
  if (table.arranged_pages == 0) table.order = nullptr;
}

/// The options for this pool. Checks them before the store changes anything.
StoreOptions complete(StoreOptions options, const SlowPool& pool) {
  options.budget.in_place = pool.in_place();
  Store::check(options);
  if (!pool.in_place() && options.promotion != PromotionRule::automatic) {
    throw std::invalid_argument(
        "promotion: no effect with a slow tier whose rows are always copied; expected a slow tier "
        "in memory, got a " +
        pool.kind());
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

/// The plan for the tables, `changed` among them. Throws std::invalid_argument if it is to be
/// resident and does not fit.
FastPlan Store::plan_table(const std::vector<TableLayout>& layouts, std::size_t changed) const {
  FastPlan plan = plan_fast(layouts, budget_, policy_);
  const TableLayout& table = layouts[changed];
  if (table.residency != Residency::always || plan.is_resident[changed]) return plan;
  throw std::invalid_argument(
      "resident: table '" + table.name + "' takes " +
      std::to_string(ResidentTable::bytes_for(table)) +
      " bytes; expected a store with fast_bytes that hold them beside other resident tables");
}

/// Throws MemoryShortage if the machine, or the node of the fast tiers, lacks the memory.
void Store::check_fast_memory(const FastPlan& plan, std::uint64_t held) const {
  check_memory(plan, held);
  if (options_.fast_node.node < 0 || options_.fast_node.prefer || plan.bytes <= held) return;
  check_node_memory(options_.fast_node.node, plan.bytes - held, "fast tier");
}

Store::Store(std::unique_ptr<SlowPool> pool, const StoreOptions& options)
    : pool_(std::move(pool)),
      options_(complete(options, *pool_)),
      budget_(options_.budget),
      policy_(options.policy),
      promotion_(options.promotion,
                 pool_->in_place() ? measure_line_costs(*pool_, options_.fast_node) : LineCosts{}),
      promoter_(*pool_, promotion_),
      buffers_(kMaxIdleBufferBytes),
      fetcher_(*pool_, buffers_),
      prefetch_queue_(options.prefetch_queue),
      forks_at_birth_(fork_count()) {
  const std::vector<TableLayout> layouts = pool_->tables();
  check_fast_memory(plan_fast(layouts, budget_, options_.policy), 0);
  for (const TableLayout& layout : layouts) {
    append_table(layout);
  }
  try {
    threads_.emplace_back([this] {
      pin_this_thread(options_.cpus);
      yield_to_serving();
      pool_->work();
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
    epochs_.close();
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

void Store::check_size(const std::string& name, std::uint64_t rows, std::uint32_t dim,
                       std::uint32_t stride) {
  if (rows == 0 || dim == 0) {
    throw std::invalid_argument("table '" + name + "': expected at least one row and dim, got " +
                                std::to_string(rows) + " rows of dim " + std::to_string(dim));
  }
  if (rows > kMaxTableRows || dim > kMaxDim) {
    throw std::invalid_argument("table '" + name + "': expected at most " +
                                power_of_2(kMaxTableRows) + " rows and dim " + power_of_2(kMaxDim) +
                                ", got " + std::to_string(rows) + " rows of dim " +
                                std::to_string(dim));
  }
  if (rows > kMaxTableBytes / stride) {
    throw std::invalid_argument("table '" + name + "': expected at most " +
                                power_of_2(kMaxTableBytes) + " bytes, got " + std::to_string(rows) +
                                " rows of " + std::to_string(stride));
  }
}

const Table& Store::create_table(const std::string& name, std::uint64_t rows, std::uint32_t dim,
                                 DType dtype, Residency residency,
                                 std::shared_ptr<const RowOrder> order) {
  check_fork();
  const std::string seen = name.substr(0, name.find('\0'));
  if (name.empty() || name.size() > kMaxTableNameBytes || seen.size() < name.size()) {
    throw std::invalid_argument("name: expected 1 to " + std::to_string(kMaxTableNameBytes) +
                                " bytes without NUL, got '" + seen + "'" +
                                (seen.size() < name.size() ? " and a NUL byte" : ""));
  }
  const std::uint32_t stride = stride_of(dim, dtype);
  check_size(name, rows, dim, stride);
  TableLayout layout{.name = name,
                     .rows = rows,
                     .dim = dim,
                     .dtype = dtype,
                     .stride = stride,
                     .offset = 0,
                     .residency = residency,
                     .order = std::move(order)};
  const Table* table = nullptr;
  change_layout([&] {
    Relocation relocation = add_table(std::move(layout));
    table = &tables_.back();
    return relocation;
  });
  return *table;
}

/// A failure changes nothing.
Relocation Store::add_table(TableLayout layout) {
  check_order(layout, *pool_);
  std::vector<TableLayout> layouts = this->layouts();
  for (const TableLayout& other : layouts) {
    if (other.rows == 0 || other.name != layout.name) continue;
    throw std::invalid_argument("name: table '" + layout.name +
                                "' exists already; expected a new name");
  }
  layouts.push_back(std::move(layout));
  {
    ReadGuard guard(epochs_);
    check_fast_memory(plan_table(layouts, layouts.size() - 1), held_bytes());
  }
  layouts.back() = pool_->add_table(layouts.back());
  try {
    if (layout_ready_.load(std::memory_order_acquire)) return replace_layout(budget_, layouts);
    ExclusiveGuard exclusive(epochs_);
    layout_ready_.store(false, std::memory_order_release);  // a call made it meanwhile
    append_table(layouts.back());
    return {};
  } catch (...) {
    pool_->remove_table(layouts.back());
    pool_->free_space(layouts.back());
    throw;
  }
}

const Table& Store::append_table(const TableLayout& layout) {
  std::lock_guard lock(tables_mutex_);
  const auto position = static_cast<std::uint32_t>(tables_.size());
  const StoreRow first_store_row = rows_end();
  std::vector<std::byte> default_row(round_up(slot_stride(layout), kCacheLine));
  Table& table = tables_.emplace_back();
  table.layout = layout;
  table.position = position;
  table.first_store_row = first_store_row;
  table.default_row = std::move(default_row);
  set_slow_rows(table);
  return table;
}

std::vector<const Table*> Store::tables() const {
  std::lock_guard lock(tables_mutex_);
  std::vector<const Table*> tables;
  for (const Table& table : tables_) tables.push_back(&table);
  return tables;
}

TableLayout Store::layout_of(const Table& table) const {
  std::lock_guard lock(tables_mutex_);
  return table.layout;
}

void Store::flush() {
  check_fork();
  std::shared_lock open(open_);
  epochs_.check_open();
  pool_->sync();
  pool_->check_present();
}

std::vector<std::uint64_t> Store::damaged_pages(const Table& table, std::uint64_t first,
                                                std::uint64_t n) {
  check_fork();
  std::shared_lock open(open_);
  epochs_.check_open();
  check_live(table);
  const std::uint64_t pages = table.layout.num_pages();
  if (first > pages || n > pages - first) {
    throw std::invalid_argument("pages: expected at most " + std::to_string(pages) + ", got " +
                                std::to_string(n) + " from page " + std::to_string(first) + " on");
  }
  return pool_->damaged_pages(table.layout, first, n);
}

void Store::close(std::vector<SavedRow>* resident) {
  check_fork();
  async_lookups_.stop();  // before the locks: its calls may make the layout
  std::lock_guard changing_layout(change_layout_);
  std::lock_guard changing(use_policy_);
  std::lock_guard updating(update_mutex_);
  std::unique_lock open(open_);
  stop_planning();  // also of a closed store, whose use_policy failed
  if (epochs_.is_closed()) return;
  try {
    pool_->write_back();
    ExclusiveGuard exclusive(epochs_);
    epochs_.close();
  } catch (...) {
    start_planning();  // the store stays open
    async_lookups_.restart();
    throw;
  }
  stop_threads();
  if (resident != nullptr && layout_ready_) take_resident(*resident);
  tiers_.clear();
  for (Table& table : tables_) table.resident.reset();
  const std::unique_ptr<SlowPool> pool = std::move(pool_);  // unlocks the file at the end
  pool->check_present();
}

void Store::stop_threads() {
  prefetch_queue_.stop();
  if (pool_ != nullptr) pool_->stop();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

bool Store::is_resident(const Table& table) {
  check_fork();
  std::optional<ReadGuard> guard;
  enter(guard);
  check_live(table);
  return table.resident != nullptr;
}

}  // namespace tieralloc
