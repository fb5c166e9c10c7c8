// store.hpp: tables whose rows live in a slow pool and are copied into fast tiers, and the calls on
// them.
//
// Concurrency: every public function may be called from any number of threads at once.
//  - A lookup that finds its rows takes no lock (with lru and lfu, one for moments, to tell the
//    policy). One that misses holds no lock while it waits for the device, and waits for no row
//    that it did not ask for.
//  - It sees the old or the new value of a row that is updated beside it, never a mixture; a lookup
//    that begins after an update returned sees that update or a later one.
//  - create_table, load, record_accesses, use_policy, reset_stats and close wait for calls under
//    way and hold new ones off while they work.
//  - Rows go home (write-back) one writer at a time, under `write_back_`. A row stays readable in
//    the fast tier until its value is in the slow pool, and a read of it that was under way is made
//    stale by the update, so no reader needs bytes that are being written.
//  - Of a slow pool in memory, rows that are not resident are read in place. Who writes one home
//  has
//    had its new value in the index before, and waits for readers that may have missed it there.
// After fork() the child may not use the store: every call throws std::invalid_argument there, and
// the parent's goes on.
//
// Lock order: use_policy_, CallGate::Exclusive, write_back_, FastTier::mutex().
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/buffers.hpp"
#include "epoch/call_gate.hpp"
#include "fast_tier/fast_tier.hpp"
#include "slow_tier/admission.hpp"
#include "slow_tier/slow_pool.hpp"
#include "store/access_ring.hpp"
#include "store/access_samples.hpp"
#include "store/bag_call.hpp"
#include "store/fetcher.hpp"
#include "store/planning.hpp"
#include "store/prefetch_queue.hpp"
#include "store/promoter.hpp"
#include "store/store_stats.hpp"
#include "store/tier_plan.hpp"

namespace tieralloc {

struct StoreOptions {
  FastBudget budget;
  std::string policy = "s3fifo";
  std::uint64_t seed = 0;
  unsigned prefetch_threads = 1;
  std::size_t prefetch_queue =
      1 << 16;            ///< rows waiting to be prefetched; further ones are dropped and counted
  NodeRequest fast_node;  ///< where the fast tiers' memory lies; node -1: wherever
  std::vector<int> cpus;  ///< that background threads run on; none: cpus_for_node, or any
  AdmissionRule admission = AdmissionRule::automatic;  ///< of rows that are read in place
};

struct Table {
  TableLayout layout;
  std::uint32_t position = 0;  ///< among the store's tables
  RowId number = 0;            ///< of row 0 among all rows of the store, as a trace counts them
  FastTier* tier = nullptr;
  RowId first_row = 0;              ///< of this table among the tier's
  const std::byte* home = nullptr;  ///< row 0, where rows are read in place; else null

  std::uint32_t row_bytes() const {
    return layout.dim * static_cast<std::uint32_t>(size_of(layout.dtype));
  }
  std::uint64_t offset_of(std::uint64_t row) const { return layout.offset + row * layout.stride; }
};

class Store {
 public:
  /// Throws std::invalid_argument where the options make no sense whatever the tables, and
  /// MemoryShortage where they ask for more than there is.
  static void check(const StoreOptions& options);

  /// Throws as `check`, and where the options leave the pool's tables less than a slot each.
  Store(std::unique_ptr<SlowPool> pool, const StoreOptions& options);
  /// Closes; what could not be written back is lost, which `close` would have told.
  ~Store();

  const Table& create_table(const std::string& name, std::uint64_t rows, std::uint32_t dim,
                            DType dtype);
  /// In order of creation; addresses stay.
  std::vector<const Table*> tables() const;

  /// Writes rows first … first + n - 1, `values` being dense, past the fast tier; copies of them
  /// there are dropped.
  void load(const Table& table, std::uint64_t first, std::uint64_t n, const std::byte* values);

  /// To be called after a series of loads: the kernel's page cache lets go of what they wrote.
  void settle();

  /// Serves a call. Returns how many indices were out of range and served as row 0.
  std::uint64_t embedding_bag(const BagCall& call);

  /// Sets rows to new values, `values` being dense; of an index given twice the later value stays.
  /// Where it throws SystemFailure, because the fast tier is full of rows that cannot be written
  /// back, earlier rows have their new value.
  void update(const Table& table, Integers indices, const std::byte* values);

  /// Has rows fetched in the background. Returns how many were put in the queue.
  std::uint64_t prefetch(const BagCall& call);

  /// Makes rows resident and keeps them so. All or none.
  void pin(const Table& table, Integers indices);
  void unpin(const Table& table, Integers indices);

  /// Returns once every update made before is in the slow pool for good. Throws SystemFailure.
  void flush();

  /// Flushes and ends. Throws SystemFailure where that fails; the store stays open then. Closing
  /// twice does nothing.
  void close();
  bool closed() const { return gate_.closed(); }

  /// False in a forked child, where the store can neither be used nor destroyed.
  bool belongs_here() const;

  /// Has lookups record their accesses, in a ring of at least `capacity` words per thread; 0 ends
  /// that, also once closed. Returns the accesses recorded before and not drained.
  AccessSamples record_accesses(std::size_t capacity);
  /// Takes the accesses recorded, in the order of calls for each thread, as row numbers among all
  /// rows of the store.
  AccessSamples drain_accesses();

  /// Has a simple policy decide which rows are evicted, resident rows staying. Throws
  /// std::invalid_argument.
  void use_policy(const std::string& name);

  // planning.cpp
  /// The same for a policy that plans. A new layout of the tiers (create_table) ends it, and the
  /// simple one decides until it is asked for again.
  void use_policy(const PlannedPolicy& policy);
  /// Makes a step of a policy that is not in the background: what it prefetches has arrived when
  /// this returns. Returns how many accesses it observed.
  std::size_t step_policy();
  PolicyStats policy_stats();
  /// Rows of each fast tier.
  std::vector<std::uint64_t> capacities();

  StoreStats stats();
  void reset_stats();

 private:
  friend class BagServer;

  void check_fork() const;
  const Table& append_table(const TableLayout& layout);
  AccessRing* ring_of(CallGate::Call& call);
  void enter(std::optional<CallGate::Call>& call);
  void ensure_layout();
  void build_tiers();
  void check_fast_memory(const std::vector<TierPlan>& plans, std::uint64_t held) const;
  void drop_tiers();
  void stop_threads();

  // update.cpp
  void store_row(const Table& table, std::uint64_t row, const std::byte* bytes);
  void make_room(FastTier& tier);
  std::size_t write_back_some(FastTier& tier, bool all);
  void write_back_most();
  void write_back_all(FastTier& tier);
  bool clean_some();
  void clean_in_background();
  void wake_cleaner(FastTier& tier);

  // planning.cpp
  std::uint64_t lookups() const;
  TierTables tables_of(const FastTier& tier) const;
  std::vector<std::unique_ptr<EvictionPolicy>> make_simple(const std::string& name);
  std::vector<std::unique_ptr<EvictionPolicy>> swap_policies(
      std::vector<std::unique_ptr<EvictionPolicy>> policies, const std::string& simple);
  void start_planning();
  void stop_planning();
  bool stops_planning();
  void plan_in_background();
  std::size_t plan(bool waits);
  void observe(const AccessSamples& samples);
  RowPlace place_of(RowId row) const;
  void take_prefetches(std::vector<RowPlace>& places);
  void note_step(std::size_t accesses, std::uint64_t drained, double seconds);
  std::vector<LearnedStats> learned_stats() const;
  void weigh();
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

  // prefetch.cpp
  bool prefetches_pay() const;
  static std::vector<Miss> rows_to_pin(const Table& table, Integers indices);
  void prefetch_in_background();

  std::unique_ptr<SlowPool> pool_;
  const StoreOptions options_;
  std::string policy_;  ///< changed by who is alone inside
  Admission admission_;
  Promoter promoter_;
  CallGate gate_;
  BufferPool buffers_;
  Fetcher fetcher_;

  mutable std::mutex tables_mutex_;
  std::deque<Table> tables_;
  std::vector<std::unique_ptr<FastTier>> tiers_;
  std::atomic<bool> layout_ready_{false};
  TierCounts former_counts_;  ///< of tiers that a new layout replaced
  Placement fast_placement_;

  std::atomic<std::size_t> access_capacity_{0};
  std::mutex drain_mutex_;
  std::array<AccessQueue, 2> access_queues_;      ///< by AccessReader, under `drain_mutex_`
  std::atomic<std::uint64_t> former_dropped_{0};  ///< accesses that no ring counts
  std::atomic<std::uint64_t> dropped_at_reset_{0};
  std::atomic<std::uint64_t> updates_{0};
  std::mutex write_back_;  ///< held over writes of rows: one writer at a time
  std::uint64_t written_since_drop_ = 0;
  std::mutex error_mutex_;
  std::string write_back_error_;

  PrefetchQueue prefetch_queue_;
  std::mutex cleaner_mutex_;
  std::condition_variable cleaner_wake_;
  bool stopping_ = false;
  bool cleaner_asked_ = false;
  std::vector<std::thread> threads_;
  std::uint64_t forks_at_birth_;

  std::mutex use_policy_;               ///< over changes of what plans; before all other locks
  std::unique_ptr<Planning> planning_;  ///< null: nothing plans
  std::thread planner_;                 ///< joinable while a policy plans in the background
};

}  // namespace tieralloc
