// store.hpp: embedding tables in a slow pool, with copies of rows in fast tiers.
//
// Concurrency: any number of threads may call any public function.
//  - A lookup whose rows are resident takes no lock (with lru and lfu a short one, to notify the
//    policy). A lookup with misses holds no lock while it waits for the device, and waits only for
//    rows that it asked for.
//  - A lookup sees the old or the new value of a row that is updated at the same time, never a
//    mixture. A lookup that starts after an update returned sees that update or a later one.
//  - One thread at a time writes (update, load, create_table), under `update_mutex_`. Lookups go on
//    meanwhile. An update writes to the slow pool first, then replaces the copies of its rows; it
//    makes reads in flight stale, so no reader needs bytes that are being written.
//  - A resident table lies in DRAM as a whole: its lookups are hits, its updates set its rows
//    (fast_tier/resident_table.hpp).
//  - Of a slow pool in memory, non-resident rows are read in place. A row's new value is in the
//    index before the row is written; the writer waits for readers that may have missed it there.
//  - A delta's rows, of any tables, are seen by a call all or none (delta.hpp).
//  - record_accesses, use_policy, reset_stats, the end of a delta, close, load into memory and the
//    last step of create_table, grow_table, resize, reserve and drop_table exclude all other calls
//    while they work (ExclusiveGuard).
// A forked child cannot use the store: every call throws std::invalid_argument there. The parent
// continues.
//
// Lock order: change_layout_, use_policy_, Planning::step, update_mutex_, open_, guards of
// `epochs_`, FastTier::mutex(), that of a former tier.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/buffers.hpp"
#include "epoch/epoch_manager.hpp"
#include "fast_tier/fast_tier.hpp"
#include "fast_tier/resident_table.hpp"
#include "slow_tier/promotion.hpp"
#include "slow_tier/slow_pool.hpp"
#include "store/access_ring.hpp"
#include "store/access_samples.hpp"
#include "store/async_lookups.hpp"
#include "store/bag_call.hpp"
#include "store/call_state.hpp"
#include "store/fetcher.hpp"
#include "store/layout.hpp"
#include "store/planning.hpp"
#include "store/prefetch_queue.hpp"
#include "store/promoter.hpp"
#include "store/relocation.hpp"
#include "store/store_stats.hpp"
#include "store/tier_plan.hpp"

namespace tieralloc {

struct StoreOptions {
  FastBudget budget;
  std::string policy = "s3fifo";
  std::uint64_t seed = 0;
  unsigned prefetch_threads = 1;
  std::size_t prefetch_queue = 1 << 16;  ///< rows; further ones are dropped and counted
  NodeRequest fast_node;                 ///< of the fast tiers' memory; node -1: any
  std::vector<int> cpus;                 ///< of background threads; none: cpus_for_node, or any
  PromotionRule promotion = PromotionRule::automatic;  ///< of rows that are read in place
};

struct Table {
  TableLayout layout;
  std::uint32_t position = 0;  ///< among the store's tables
  StoreRow first_store_row{};
  FastTier* tier = nullptr;  ///< null: the table is resident, or no call needed the tiers yet
  TierRow first_tier_row{};
  std::unique_ptr<ResidentTable> resident{};  ///< null: rows have copies in `tier`
  const std::byte* slow_rows = nullptr;       ///< row 0, if rows are read in place; else null
  std::vector<std::byte> default_row{};       ///< of zeros, for indices outside of the table
  std::atomic<bool> is_dropped{false};        ///< changed under an ExclusiveGuard

  std::uint32_t row_bytes() const { return layout.row_bytes(); }
  /// Rows, also while another thread adds some.
  std::uint64_t num_rows() const {
    return std::atomic_ref(const_cast<std::uint64_t&>(layout.rows)).load(std::memory_order_relaxed);
  }
  /// StoreRow minus TierRow of each row, in wrapping arithmetic.
  std::uint64_t store_shift() const { return first_store_row.value - first_tier_row.value; }
};

class Delta;

/// A row with a copy in a fast tier.
struct ResidentRow {
  StoreRow row{};
  Standing standing{};
  bool is_pinned = false;
};

/// A row and its standing in one word, as files have them: 48 bits of the row, 8 of its hits, 8 of
/// its queue + 1, or 0 without a standing.
struct SavedRow {
  static constexpr unsigned kRowBits = 48;

  std::uint64_t word = 0;

  static constexpr bool can_hold(StoreRow row) { return row.value >> kRowBits == 0; }
  static constexpr SavedRow of(StoreRow row, Standing standing) {
    const std::uint64_t bits = standing.hits | (standing.queue + 1u) << 8;
    return {row.value | bits << kRowBits};
  }
  constexpr StoreRow row() const { return {word & ((std::uint64_t{1} << kRowBits) - 1)}; }
  constexpr std::optional<Standing> standing() const {
    const auto bits = static_cast<std::uint32_t>(word >> kRowBits);
    if (bits >> 8 == 0) return {};
    return Standing{.queue = static_cast<std::uint8_t>((bits >> 8) - 1),
                    .hits = static_cast<std::uint8_t>(bits)};
  }
  bool operator==(const SavedRow&) const = default;
};

class Store {
 public:
  /// Throws std::invalid_argument for options that no table could satisfy, and MemoryShortage if
  /// they ask for more memory than is available.
  static void check(const StoreOptions& options);

  /// Throws as `check`, and if the options leave the pool's tables less than one slot each.
  Store(std::unique_ptr<SlowPool> pool, const StoreOptions& options);
  /// Closes. Ignores errors, which `close` throws.
  ~Store();

  /// Adds a table of zeros, durably. Resident rows and pins of others stay. Throws
  /// std::invalid_argument, SystemFailure and MemoryShortage, changing nothing.
  const Table& create_table(const std::string& name, std::uint64_t rows, std::uint32_t dim,
                            DType dtype, Residency residency = Residency::automatic,
                            std::shared_ptr<const RowOrder> order = nullptr);
  /// Whether a table lies in DRAM as a whole.
  bool is_resident(const Table& table);

  /// Removes a table, durably; its space and its name are free for later tables. Later calls of it
  /// throw std::invalid_argument; positions of tables stay, StoreRow numbers close up. Pinned rows
  /// of other tables that do not fit any more are unpinned. Throws SystemFailure, changing nothing.
  void drop_table(const Table& table);

  // grow.cpp
  /// Gives a table further rows, of zeros, durably. Copies its pages if the space behind them is
  /// taken; lookups go on meanwhile, writers wait. StoreRow numbers of later tables move. Throws
  /// std::invalid_argument, SystemFailure and MemoryShortage, changing nothing.
  void grow_table(const Table& table, std::uint64_t rows);

  /// In order of creation, dropped ones included; addresses stay valid.
  std::vector<const Table*> tables() const;
  /// A copy of a table's layout, which `grow_table` may change.
  TableLayout layout_of(const Table& table) const;

  /// Writes rows first ... first + n - 1 to the slow pool and drops their copies. `values` are
  /// dense. Throws SystemFailure; some of the rows may be new then.
  void load(const Table& table, std::uint64_t first, std::uint64_t n, const std::byte* values);

  /// The same for rows of floats of a quantised table. Throws std::invalid_argument for a row that
  /// cannot be quantised, naming it; rows before it may be new then.
  void load_floats(const Table& table, std::uint64_t first, std::uint64_t n, const float* values);

  /// Ends a series of loads: returns when they are durable. Throws SystemFailure.
  void settle();

  /// Serves a call. Returns the number of indices out of range, which are served as row 0.
  std::uint64_t embedding_bag(const BagCall& call) {
    return embedding_bags({&call, 1}, Accesses::recorded);
  }

  /// Serves calls as one: their misses are fetched together. Under Accesses::only_recorded no row
  /// is read.
  std::uint64_t embedding_bags(std::span<const BagCall> calls, Accesses accesses);
  /// Serves a call in a background thread; the call's memory must stay valid until its lookup is
  /// done or cancelled. Waits while very many calls are queued. Throws as `embedding_bag` for
  /// invalid arguments; a read that fails is an error of the lookup.
  std::shared_ptr<AsyncLookup> submit(const BagCall& call);
  /// Whether a reader gets the accesses of lookups.
  bool records() const { return access_capacity_.load(std::memory_order_relaxed) > 0; }

  /// Sets rows to new values, which are dense. If an index is repeated, its last value counts. All
  /// rows or none. `in_bulk`: as of SlowPool::load_rows, durable once `settle` returns; each index
  /// once. Throws SystemFailure.
  void update(const Table& table, Integers indices, const std::byte* values, bool in_bulk = false);

  /// The same for rows of floats of a quantised table. Throws std::invalid_argument for a row that
  /// cannot be quantised, naming it.
  void update_floats(const Table& table, Integers indices, const float* values,
                     bool in_bulk = false);

  // delta.cpp
  /// Of the last delta; 0: there was none.
  std::uint64_t version() const;
  /// Begins a delta of these parts (table and rows). Other writers wait until it ends, lookups go
  /// on. Throws std::invalid_argument for a pool without versions, SystemFailure.
  std::unique_ptr<Delta> begin_delta(std::span<const DeltaPart> parts);
  // resize.cpp
  /// Changes the budget of the fast tiers, which then are as those of a store opened with it. The
  /// resident rows move to the new tiers while calls go on; of more than fit, the next victims stay
  /// behind. Returns once they are there. Pins stay. Throws std::invalid_argument, and
  /// MemoryShortage, changing nothing.
  void resize(const FastBudget& budget);
  /// Gives a table at least `bytes` of the budget, in a fast tier of its own, while the store is
  /// open; 0: as before. As `resize` otherwise.
  void reserve(const Table& table, std::uint64_t bytes);

  /// Queues rows to be fetched in the background. Returns the number of rows queued.
  std::uint64_t prefetch(const BagCall& call);

  /// Makes rows resident until they are unpinned. All or none.
  void pin(const Table& table, Integers indices);
  void unpin(const Table& table, Integers indices);

  // warm_up.cpp
  /// Brings rows into free slots, in file order, and then sets their eviction order to that of
  /// `rows`, the next victim first, and their standing. Evicts no row; of too many rows the last
  /// ones count. Returns the number of rows read. Rows that cannot be read are skipped. Lookups go
  /// on meanwhile.
  std::uint64_t warm_up(std::span<const SavedRow> rows);
  /// The resident rows of the tiers, in no order, without rows that a word cannot hold. Lookups go
  /// on meanwhile.
  std::vector<SavedRow> resident_rows();

  // copy_residents.cpp
  /// The resident rows of the tiers, ascending, with what the policies know of them. Lookups go on.
  std::vector<ResidentRow> list_residents();
  /// Brings in the resident rows of another store, which has the same tables and goes on serving,
  /// with their standing; drops other rows. Takes turns with pauses, in the calling thread, which
  /// becomes a background thread. Returns the number of resident rows. Throws SystemFailure for a
  /// row that cannot be read. No other call may use this store meanwhile, except `close`, which
  /// ends the copy with std::invalid_argument.
  std::uint64_t copy_residents(Store& from);
  /// Pins the rows that are pinned in the other store, and no others. Throws as `pin`.
  void copy_pins(Store& from);

  /// Returns once every earlier update and load is durable. Throws SystemFailure, also if the
  /// pool's file does not have its path any more.
  void flush();

  /// Writes all updates to their pages and closes. Throws SystemFailure if that fails; the store
  /// stays open then. Throws SystemFailure too if the pool's file does not have its path any more;
  /// the store is closed then. A second call has no effect. `resident` receives the resident rows
  /// of the tiers, the next victim first.
  void close(std::vector<SavedRow>* resident = nullptr);
  /// As SlowPool::store_id. Not of a closed store.
  std::uint64_t store_id() const;
  bool closed() const { return epochs_.is_closed(); }

  /// False in a forked child, which can neither use nor destroy the store.
  bool belongs_here() const;

  /// Records accesses of lookups in a ring of at least `capacity` words per thread; 0 stops, also
  /// once closed. Returns the accesses recorded before and not drained.
  AccessSamples record_accesses(std::size_t capacity);
  /// Removes and returns the accesses recorded, per thread in the order of its calls.
  AccessSamples drain_accesses();

  /// Replaces the eviction policy by a simple one; resident rows stay. Throws
  /// std::invalid_argument.
  void use_policy(const std::string& name);

  // planning.cpp
  /// The same for a planned policy. It begins again with each new layout of the tiers.
  void use_policy(const PlannedPolicy& policy);
  /// Makes a step of a policy that has no background thread, and waits for its prefetches. Returns
  /// the number of accesses observed.
  std::size_t step_policy();
  PolicyStats policy_stats();
  /// Rows of each fast tier.
  std::vector<std::uint64_t> capacities();

  StoreStats stats();
  /// As UpdateStats. Not of a closed store.
  std::string write_back_error() const;
  void reset_stats();

  /// As SlowPool::damaged_pages.
  std::vector<std::uint64_t> damaged_pages(const Table& table, std::uint64_t first,
                                           std::uint64_t n);

 private:
  friend class LookupExecutor;
  friend class Delta;
  friend class HeldPolicy;

  void check_fork() const;
  static void check_size(const std::string& name, std::uint64_t rows, std::uint32_t dim,
                         std::uint32_t stride);
  FastPlan plan_table(const std::vector<TableLayout>& layouts, std::size_t changed) const;
  TableStats stats_of(const Table& table) const;
  Relocation add_table(TableLayout layout);
  const Table& append_table(const TableLayout& layout);
  void set_slow_rows(Table& table);
  void set_layouts(const std::vector<TableLayout>& layouts);
  AccessRing* ring_of(CallState& state);
  void enter(std::optional<ReadGuard>& guard);
  void ensure_layout();
  void build_tiers();
  std::vector<TableLayout> layouts() const;
  Layout make_layout(const std::vector<TableLayout>& layouts, const FastBudget& budget);
  bool fill_resident(Layout& layout, std::vector<TableLayout>& layouts);
  void install(Layout& layout);
  void check_fast_memory(const FastPlan& plan, std::uint64_t held) const;

  // resize.cpp
  void change_layout(const std::function<Relocation()>& change);
  std::uint64_t held_bytes() const;
  Relocation replace_layout(const FastBudget& budget, std::vector<TableLayout> layouts,
                            Table* changed = nullptr);
  Relocation install_keeping_rows(Layout& next, const FastBudget& budget,
                                  const std::vector<TableLayout>& layouts, Table* changed);
  void change_in_pool(const Relocation& relocation, const Table& table, const TableLayout& next);
  void move_rows(Relocation& relocation);
  void move_slots(const Relocation& relocation, FastTier& from, std::vector<bool> is_kept);
  bool move_range(const Relocation& relocation, FastTier& from, Slot first, Slot end,
                  const std::vector<bool>& is_kept);
  void reorder_moved(const Relocation& relocation, FastTier& from, std::span<const Slot> order,
                     const std::vector<bool>& is_kept);

  // drop.cpp
  static void mark_dropped(TableLayout& layout);
  void check_not_recorded(const char* call);
  void renumber_tables();
  StoreRow rows_end() const;
  void stop_threads();

  // delta.cpp
  static void overlay(const StagedDelta& delta, const FastTier& tier, std::span<const TierRow> rows,
                      const std::byte** copies);

  // update.cpp
  class PaddedRow;
  void replace_copies(const Table& table, std::span<const TableRow> rows, const std::byte* values,
                      PaddedRow& padded);
  void update_in_place(const Table& table, std::span<const TableRow> rows, const std::byte* values);
  std::size_t stage(const Table& table, std::span<const TableRow> rows, const std::byte* values);
  template <typename Load>
  void each_load_batch(const Table& table, std::uint64_t first, std::uint64_t n, Load load);
  void load_batch(const Table& table, TableRow first, std::size_t rows, const std::byte* values);
  void drop_copies(const Table& table, TableRow first, std::size_t rows, const std::byte* values,
                   PaddedRow& padded);

  // planning.cpp
  std::uint64_t lookups() const;
  TierTables tables_of(const FastTier& tier) const;
  static TierTables tables_in(const Layout& layout, const FastTier& tier);
  std::vector<std::unique_ptr<EvictionPolicy>> make_planned(const Layout& layout) const;
  void adopt_planned(std::vector<std::unique_ptr<EvictionPolicy>> planned, bool is_paused);
  std::vector<std::unique_ptr<EvictionPolicy>> make_simple(const std::string& name);
  std::vector<std::unique_ptr<EvictionPolicy>> swap_policies(
      std::vector<std::unique_ptr<EvictionPolicy>> policies, const std::string& simple);
  void start_planning();
  void stop_planning();
  void without_planner(const std::function<void()>& act);
  bool is_stopping_planning();
  void plan_in_background();
  std::size_t plan(bool waits);
  void observe(const AccessSamples& samples);
  RowPlace place_of(StoreRow row) const;
  void take_prefetches(std::vector<RowPlace>& places);
  void count_step(std::size_t accesses, std::uint64_t drained, double seconds);
  std::vector<LearnedStats> learned_stats() const;
  void check_cost_benefit();
  void begin_pause(const std::string& simple, std::uint64_t lookups);
  bool end_pause();
  void fail_planning(const std::string& reason);

  // accesses.cpp
  AccessSamples set_access_rings(AccessReader reader, std::size_t capacity);
  AccessSamples drain_rings(AccessReader reader);
  AccessSamples take_accesses(AccessReader reader);
  std::uint64_t dropped_accesses() const;
  AccessQueue& queue_of(AccessReader reader) {
    return access_queues_[static_cast<std::size_t>(reader)];
  }

  // warm_up.cpp
  std::vector<RowPlace> absent_rows(std::span<const StoreRow> rows);
  void reorder(std::span<const SavedRow> rows);
  RowPlace known_place(StoreRow row) const;
  void append_store_rows(const FastTier& tier, std::span<const TierRow> rows,
                         std::vector<StoreRow>& found) const;
  void take_resident(std::vector<SavedRow>& rows);

  // copy_residents.cpp
  void drop_rows(std::span<const ResidentRow> rows);
  void copy_rows(std::span<const ResidentRow> rows);
  void check_copied(std::span<const RowPlace> places);
  void rank_rows(std::span<const StoreRow> in_order, std::span<const ResidentRow> residents);

  // prefetch.cpp
  bool uses_copies() const;
  static std::vector<Miss> rows_to_pin(const Table& table, Integers indices);
  void prefetch_in_background();

  std::unique_ptr<SlowPool> pool_;
  const StoreOptions options_;
  FastBudget budget_;   ///< changed under an ExclusiveGuard
  std::string policy_;  ///< changed under an ExclusiveGuard
  PromotionPolicy promotion_;
  Promoter promoter_;
  EpochManager epochs_;
  CallStates states_{epochs_};
  BufferPool buffers_;
  Fetcher fetcher_;

  mutable std::mutex tables_mutex_;
  std::deque<Table> tables_;
  std::vector<std::unique_ptr<FastTier>> tiers_;
  std::atomic<bool> layout_ready_{false};
  std::atomic<const StagedDelta*> overlay_{nullptr};  ///< a delta whose copies are not all replaced
  TierCounts former_counts_;                          ///< of tiers that a new layout replaced
  std::atomic<std::uint64_t> former_bytes_{0};        ///< of tiers whose rows are moving
  Placement fast_placement_;

  std::atomic<std::size_t> access_capacity_{0};
  std::mutex drain_mutex_;
  std::array<AccessQueue, 2> access_queues_;      ///< by AccessReader, under `drain_mutex_`
  std::atomic<std::uint64_t> former_dropped_{0};  ///< accesses that no ring counts
  std::atomic<std::uint64_t> dropped_at_reset_{0};
  UpdateStats updates_at_reset_;
  std::mutex update_mutex_;          ///< one writer at a time
  TableCounterSet update_counters_;  ///< written under `update_mutex_`
  mutable std::shared_mutex open_;   ///< held by flush, and alone by close

  AsyncLookups async_lookups_{[this](const BagCall& call) { return embedding_bag(call); }};
  PrefetchQueue prefetch_queue_;
  std::vector<std::thread> threads_;
  std::uint64_t forks_at_birth_;

  std::mutex change_layout_;            ///< one change of the layout at a time
  std::mutex use_policy_;               ///< one change of policy at a time
  std::unique_ptr<Planning> planning_;  ///< null: the policy is a simple one
  std::thread planner_;                 ///< joinable while a policy plans in the background
};

}  // namespace tieralloc
