// fast_tier.hpp: the fast tier of all rows of one size: slots, the index to them, and who may stay.
//
// Rows are updated by copy: a new value goes into a slot of its own and the index turns to it, so
// that a reader sees the old row or the new one and never a mixture. A slot that the index no
// longer names is reused when call_gate.hpp says that no reader is left.
//
// Where rows are read at home (`in_place`), a row that is not resident need not become so to be
// updated: its new value stays in a spare slot, which readers find, until it is home. Whoever
// writes it there waits first for readers that may have found no such slot.
//
// Concurrency: `find`, `row`, `clear_prefetched` and, where `touch_is_concurrent()`, `touch` and
// `note_saturation`, run anywhere inside a read section. Everything that is documented as "locked"
// needs `mutex()` held. The lock is held for memory operations only, never over I/O.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/counters.hpp"
#include "base/memory.hpp"
#include "base/types.hpp"
#include "epoch/call_gate.hpp"
#include "eviction/planner.hpp"
#include "eviction/policy.hpp"
#include "index/row_index.hpp"
#include "slow_tier/admission.hpp"
#include "slow_tier/fetch_batch.hpp"

namespace tieralloc {

struct TierPlan {
  std::uint32_t stride = 0;  ///< bytes a slot
  RowId rows = 0;            ///< rows that may come, all tables of this row size together
  Slot capacity = 0;         ///< most rows resident
  Slot slots = 0;  ///< capacity and spares, where new values go before old ones are out of use
  bool in_place = false;  ///< rows that are not resident are read at home
};

/// Where in the slow pool the rows from `first_row` on live, up to the next such range.
struct RowHome {
  RowId first_row = 0;
  std::uint64_t offset = 0;
};

struct TierBytes {
  std::size_t vectors = 0;
  std::size_t index = 0;
  std::size_t metadata = 0;
  std::size_t total() const { return vectors + index + metadata; }
};

/// Spare slots for a capacity.
Slot spare_slots(Slot capacity);

/// DRAM that a tier of this plan takes.
TierBytes tier_bytes(const TierPlan& plan, const std::string& policy);

/// A row's place on its way home.
struct DirtyRow {
  Slot slot;
  RowId row;
};

class FastTier final : private SaturationObserver, private TierView {
 public:
  FastTier(const TierPlan& plan, std::vector<RowHome> homes, const std::string& policy,
           std::uint64_t seed, CallGate& gate);

  /// Offset of a row in the slow pool.
  std::uint64_t home_of(RowId row) const;

  // Inside a read section.
  const RowIndex& index() const { return *index_; }
  const std::byte* row(Slot slot) const { return vectors_.data() + std::size_t{slot} * stride_; }
  bool clear_prefetched(RowId row) { return index_->clear_flag(row, kPrefetchedFlag); }
  /// Whether every row can be read at home with no look at the index: no new value is on its way
  /// there, and nobody asked for rows to be resident.
  bool can_be_passed_over() const {
    return dirty_.load(std::memory_order_acquire) == 0 &&
           pinned_.load(std::memory_order_relaxed) == 0;
  }
  /// Counts an access to a row at home; returns how many there were of late.
  unsigned count_access(RowId row) { return accesses_->add(row); }
  /// Whether a touch needs no lock; one that does is better told outside the read section.
  bool touch_is_concurrent() const { return policy_->touch_is_concurrent(); }
  /// Tells the policy of hits, in order; takes the lock itself where the policy needs it.
  void touch(std::span<const Slot> slots);
  /// Rows of touched slots that need no further touches: their places in `slots`, as
  /// EvictionPolicy::find_saturated.
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const {
    return policy_->find_saturated(slots, places);
  }
  /// Spares a row further touches, if its entry is still the one `seen`.
  void note_saturation(RowId row, Entry seen) { index_->set_flag(row, seen, kSaturatedFlag); }
  /// False where nothing can ever be evicted, and touches would be work for nothing.
  bool needs_touches() const { return can_evict(); }

  std::mutex& mutex() { return mutex_; }

  // Locked: reads under way, so that concurrent misses of a row share one.
  struct Flight {
    std::shared_ptr<FetchBatch> batch;
    std::uint32_t item;
  };
  Flight* find_flight(RowId row);
  void start_flight(RowId row, Flight flight) { flights_.emplace(row, std::move(flight)); }
  /// Ends a flight if it is still this one. False where the row was changed meanwhile.
  bool end_flight(RowId row, const FetchBatch* batch);

  // Locked: admission and eviction.
  enum class Admit { on_demand, prefetch, pin };
  /// Gives a row that is not resident a slot, if the policy wants it and a slot can be had.
  bool admit(RowId row, const std::byte* bytes, Admit why);
  /// Stores a new value of a row, resident or not. False where no slot is free at this moment.
  bool store(RowId row, const std::byte* bytes);
  /// Takes a row out, a dirty value included: for those who replaced it in the slow tier.
  void discard(RowId row);
  /// A row's value in the slow tier became `bytes`, while nobody reads: a pinned copy takes it,
  /// another one is discarded.
  void replaced(RowId row, const std::byte* bytes);

  // Locked: pinned rows are resident and out of the policy's reach.
  /// Throws std::invalid_argument, changing nothing, where `count` more would leave no slot to
  /// evict from.
  void reserve_pins(Slot count);
  void cancel_pins(Slot count) { pinned_ -= count; }
  /// Pins a resident row with a reserved pin. False where the row was pinned already: the reserved
  /// pin is given back.
  bool pin(RowId row);
  void unpin(RowId row);
  bool is_pinned(RowId row) const;
  /// Whether the row has a slot that it loses once its value is home.
  bool is_leaving(RowId row) const;

  /// Has another policy, empty and made for `eviction_config()`, decide from now on: it takes the
  /// rows over in the order in which the former one would evict them. Returns that one, empty.
  /// `metadata` is the simple policy whose bytes `bytes` counts. Locked, while no call is inside.
  std::unique_ptr<EvictionPolicy> use_policy(std::unique_ptr<EvictionPolicy> policy,
                                             const std::string& metadata);
  EvictionConfig eviction_config();

  // A step of the policy's planner, for one thread at a time, inside a call. Each takes the lock
  // itself for as long as the owner's part of it lasts.
  Planner* planner() const { return policy_->planner(); }
  bool collect();
  void evaluate() { planner()->evaluate(*this); }
  /// Applies what was decided, and evicts rows until the planner's reserve is free.
  void apply();

  // Locked: write-back. One thread at a time (the store's) collects, writes, and reports.
  /// Copies up to `most` dirty rows into `copies`, leaving rows first; of the others only if `all`.
  std::vector<DirtyRow> collect_dirty(std::size_t most, bool all, std::byte* copies);
  void written_back(std::span<const DirtyRow> rows, bool success);
  Slot leaving_rows() const { return static_cast<Slot>(leaving_.size()); }
  Slot dirty_rows() const { return dirty_; }
  /// Whether rows should go home now: asked before each batch, as of when to begin and when to end.
  bool goes_on_cleaning() {
    cleaning_ = !leaving_.empty() || dirty_ > (cleaning_ ? dirty_low_ : dirty_high_);
    return cleaning_;
  }

  /// True once after write-back in the background became worth while. No lock needed.
  bool take_cleaning_wish() {
    return cleaning_wish_.load(std::memory_order_relaxed) && cleaning_wish_.exchange(false);
  }

  // Locked: figures.
  const TierCounts& counts() const { return counts_; }
  void clear_counts() { counts_ = {}; }
  void count_prefetch() { ++counts_.prefetches_issued; }
  Slot resident_rows() const { return resident_; }
  Slot pinned_rows() const { return pinned_; }

  Slot capacity() const { return capacity_; }
  std::uint32_t stride() const { return stride_; }
  RowId rows() const { return rows_; }
  TierBytes bytes() const { return bytes_; }
  const Region& vectors() const { return vectors_; }

 private:
  enum State : std::uint8_t {
    kDirty = 1,
    kPinned = 2,
    kLeaving = 4,  ///< evicted, readable until its value is home
    kWriting = 8,
    kHeld = 16,  ///< holds a row: neither free nor retired
  };

  void needs_touches(Slot slot) override {
    index_->clear_flag(row_of_.as<RowId>()[slot], kSaturatedFlag);
  }

  bool is_resident(RowId row) const override { return index_->find(row) != kAbsent; }
  Slot find_slot(RowId row) const override;
  RowId row_in(Slot slot) const override { return row_of_.as<RowId>()[slot]; }

  bool can_evict() const { return capacity_ < rows_; }
  bool store_in_passing(Slot slot, RowId row, const std::byte* bytes, Entry former);
  std::byte* bytes_of(Slot slot) { return vectors_.data() + std::size_t{slot} * stride_; }
  Slot take_slot();
  void free_slot(Slot slot);
  void retire(Slot slot);
  Slot slot_for_new();
  bool evict_one();
  void leave(Slot slot);
  void fill(Slot slot, RowId row, const std::byte* bytes, std::uint8_t state);
  void drop(Slot slot);
  void make_stale(RowId row);

  const std::uint32_t stride_;
  const RowId rows_;
  const Slot capacity_;
  const Slot slots_;
  const bool in_place_;
  const std::uint64_t seed_;  ///< of policies
  const Slot dirty_high_;     ///< background cleaning begins above this many dirty rows
  const Slot dirty_low_;      ///< and ends here
  const std::vector<RowHome> homes_;
  CallGate& gate_;

  std::mutex mutex_;
  TierBytes bytes_;
  Region vectors_;
  std::unique_ptr<RowIndex> index_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::unique_ptr<AccessCounts> accesses_;  ///< null: rows are not read in place
  Region row_of_;                           ///< RowId a slot, of a retired one its stamp
  Region state_;                            ///< State bits a slot
  Region next_;             ///< a slot's successor among the free or the retired ones
  Slot free_ = kNoSlot;     ///< the last one freed, the first to be taken
  Slot retired_ = kNoSlot;  ///< the first one retired; its stamp stands where its row did
  Slot last_retired_ = kNoSlot;
  std::uint64_t oldest_read_ = 0;  ///< as the gate last said
  std::vector<Slot> leaving_;      ///< as many as there are spare slots at most
  Slot clean_hand_ = 0;
  Slot resident_ = 0;            ///< leaving rows are not counted
  std::atomic<Slot> pinned_{0};  ///< changed under the lock
  std::atomic<Slot> dirty_{0};   ///< leaving rows are; changed under the lock
  std::unordered_map<RowId, Flight> flights_;
  TierCounts counts_;
  bool cleaning_ = false;
  std::atomic<bool> cleaning_wish_{false};
};

}  // namespace tieralloc
