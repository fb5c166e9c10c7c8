// fast_tier.hpp: the copies of rows of one size in DRAM, with their index and eviction policy.
//
// All copies are clean: an update writes to the slow tier first. A copy is updated by copy: the new
// value goes into another slot and the index entry changes to that slot. So a reader sees the old
// value or the new one, never a mixture. The old slot is reused once no reader can hold it
// (slot_allocator.hpp).
//
// If rows are read in place, the order is reversed, so that no reader reads a row of the slow tier
// while it is written. The new value is in a slot first (`update`); once the readers that may have
// missed it have ended, the caller writes the slow tier and releases the slot (`clean`).
//
// Concurrency: the part "Inside a read section" runs in any number of threads, `touch` and
// `note_saturation` too if `touch_is_concurrent()`. The part "Locked" needs `mutex()`. The lock is
// held for memory operations only, never over I/O.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/counters.hpp"
#include "base/memory.hpp"
#include "base/types.hpp"
#include "epoch/epoch_manager.hpp"
#include "eviction/planner.hpp"
#include "eviction/policy.hpp"
#include "fast_tier/former_rows.hpp"
#include "fast_tier/in_flight_reads.hpp"
#include "fast_tier/pins.hpp"
#include "fast_tier/slot_allocator.hpp"
#include "fast_tier/slot_table.hpp"
#include "fast_tier/slow_offsets.hpp"
#include "fast_tier/tier_layout.hpp"
#include "index/row_index.hpp"
#include "slow_tier/access_counts.hpp"

namespace tieralloc {

/// Rows per lock of a tier: some microseconds.
inline constexpr std::size_t kRowsPerLock = 32;

struct RankedRow {
  TierRow row{};
  Standing standing;
};

class FastTier final : private SaturationObserver, private TierView {
 public:
  FastTier(const TierPlan& plan, SlowOffsets slow_offsets, const std::string& policy,
           std::uint64_t seed, EpochManager& epochs);

  // Constant.
  Slot capacity() const { return plan_.capacity; }
  std::uint32_t stride() const { return plan_.stride; }
  std::uint32_t row_bytes() const { return plan_.row_bytes; }
  std::size_t lines() const { return round_up(plan_.stride, kCacheLine) / kCacheLine; }
  RowId rows() const { return plan_.rows; }
  /// False if no row can ever be evicted: then touches have no effect.
  bool needs_touches() const { return can_evict(); }
  const SlowOffsets& slow_offsets() const { return slow_offsets_; }
  const Region& vectors() const { return vectors_; }
  const char* index_kind() const { return index_->kind(); }

  // Inside a read section.
  void prefetch_entries(std::span<const TierRow> rows) const { index_->prefetch(row_ids(rows)); }
  void find(std::span<const TierRow> rows, Entry* entries) const {
    index_->find(row_ids(rows), entries);
  }
  Entry find(TierRow row) const { return index_->find(row.value); }
  const std::byte* row(Slot slot) const { return vectors_.data() + offset_of(slot); }
  bool clear_prefetched(TierRow row) { return index_->clear_flag(row.value, kPrefetchedFlag); }
  /// Whether the slow tier has every value, and no row is pinned: then rows that are read in place
  /// need no search for copies.
  bool is_skippable() const { return num_dirty() == 0 && pins_.count() == 0; }
  /// Slots whose value the slow tier lacks.
  Slot num_dirty() const { return num_dirty_.load(std::memory_order_acquire); }
  /// Counts an access to a row that is read in place; returns its recent accesses.
  unsigned count_access(TierRow row) { return accesses_->add(row.value); }
  /// Whether `touch` needs no lock. One that needs it is better called outside a read section.
  bool touch_is_concurrent() const { return policy_->touch_is_concurrent(); }
  /// Notifies the policy of hits, in order. Takes the lock itself if the policy needs it.
  void touch(std::span<const Slot> slots) {
    if (!can_evict()) return;
    std::unique_lock lock(mutex_, std::defer_lock);
    if (!policy_->touch_is_concurrent()) lock.lock();
    policy_->touch(slots);
  }
  /// As EvictionPolicy::find_saturated.
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const {
    return policy_->find_saturated(slots, places);
  }
  /// Spares a row further touches, if its entry is still `seen`.
  void note_saturation(TierRow row, Entry seen) {
    index_->set_flag(row.value, seen, kSaturatedFlag);
  }

  std::mutex& mutex() { return mutex_; }
  Pins& pins() { return pins_; }

  // Locked: admission and updates.
  InFlightReads& reads() { return reads_; }
  enum class Admit { on_demand, prefetch, pin, warm_up };
  /// Makes a row resident if the policy admits it and a slot is free. A warm-up evicts no row.
  bool admit(TierRow row, const std::byte* bytes, Admit reason);
  /// Gives a copy its new value, and invalidates reads of the row in flight. A row without a copy
  /// gets a staged one if rows are read in place. False if no slot is free now.
  bool update(TierRow row, const std::byte* bytes);
  /// The slow tier has the row's value now. A staged copy is removed.
  void clean(TierRow row);
  /// Removes a copy, and invalidates reads of the row in flight.
  void discard(TierRow row);

  // Locked: pinned rows are resident, and the policy does not know them.
  /// Pins a resident row with a reserved pin. If the row is pinned already, releases the pin and
  /// returns false.
  bool pin(TierRow row);
  void unpin(TierRow row);
  bool is_pinned(TierRow row) const { return has_state(row, kPinned); }
  bool is_staged(TierRow row) const { return has_state(row, kStaged); }

  // Locked: a warm-up, and the resident rows that a later one restores.
  bool is_full() const { return resident_ >= plan_.capacity; }
  /// Gives a row the place of a new one in the eviction order, or that of one of this standing.
  void reinsert(TierRow row, std::optional<Standing> standing = {});
  /// Appends the resident rows in slots [first, last).
  void list_resident(Slot first, Slot last, std::vector<TierRow>& rows) const;
  Slot slots() const { return plan_.slots; }
  /// The standing of a resident row; that of a new one if it is pinned.
  Standing standing(TierRow row) const;
  /// Makes the policy forget rows, and inserts them again, in order, with their standing. Each
  /// row once; pinned rows are ignored.
  void rank(std::span<const RankedRow> rows);
  /// Appends all resident rows, the next victim first. The policy is empty then. Without readers.
  void take_resident(std::vector<RankedRow>& rows);

  // Locked: rows that a former tier still has, while they move here (former_rows.hpp).
  void set_former(FormerRows former) { former_ = std::move(former); }
  /// The entry of a row, which moves here if a former tier has it and a slot is free.
  Entry find_or_adopt(TierRow row) {
    const Entry entry = find(row);
    return entry != kAbsent || former_.empty() || !adopt(row) ? entry : find(row);
  }
  /// The copy in a former tier, valid while locked; null if there is none.
  const std::byte* former_copy(TierRow row) const;
  /// Moves a row here if it is `wanted` and fits. The former tier has it no more. False if readers
  /// hold every free slot: then the row stays there.
  bool take_over(TierRow row, bool wanted);

  // A former tier, which no reader uses; `mutex()` protects its index.
  /// Appends the slots that the policy holds, the next victim first. The policy is empty then.
  void drain(std::vector<Slot>& slots);
  /// The row in a slot that the index refers to; kNoRow if there is none.
  TierRow resident_row(Slot slot) const;
  /// The row that was in a slot that `drain` listed.
  TierRow drained_row(Slot slot) const { return slots_.row(slot); }
  /// Returns the memory of the slots below `slot` to the system. Their rows have moved.
  void release_below(Slot slot);
  /// Bytes of its vectors that are not released.
  std::size_t kept_bytes() const { return vectors_.size() - released_; }

  // Locked, without readers: a change of policy.
  EvictionConfig eviction_config();
  /// Replaces the policy by an empty one made for `eviction_config()`, which receives the rows in
  /// the order in which the former policy evicts them. Returns the former policy, empty. `metadata`
  /// is the simple policy whose bytes `bytes` counts.
  std::unique_ptr<EvictionPolicy> use_policy(std::unique_ptr<EvictionPolicy> policy,
                                             const std::string& metadata);

  // A step of the policy's planner: one thread at a time, with a ReadGuard. Each function takes the
  // lock itself for the part that needs it.
  Planner* planner() const { return policy_->planner(); }
  bool collect();
  void evaluate() { planner()->evaluate(*this); }
  /// Applies the decisions, and evicts rows until the planner's reserve is free.
  void apply();

  // Locked: counters.
  const TierCounts& counts() const { return counts_; }
  void clear_counts() { counts_ = {}; }
  void count_prefetch() { ++counts_.prefetches_issued; }
  void count_prefetch_read() { ++counts_.prefetch_device_reads; }
  Slot resident_rows() const { return resident_; }
  /// False only if no row has a copy or is being read.
  bool has_copies() const { return resident_ > 0 || reads_.any() || !former_.empty(); }
  TierBytes bytes() const { return bytes_; }

 private:
  // SaturationObserver and TierView.
  void needs_touches(Slot slot) override {
    index_->clear_flag(slots_.row(slot).value, kSaturatedFlag);
  }
  bool is_resident(RowId row) const override { return index_->find(row) != kAbsent; }
  Slot find_slot(RowId row) const override;
  RowId row_in(Slot slot) const override { return slots_.row(slot).value; }

  bool can_evict() const { return plan_.capacity < plan_.rows; }
  std::size_t offset_of(Slot slot) const { return std::size_t{slot} * plan_.stride; }
  std::byte* bytes_of(Slot slot) { return vectors_.data() + offset_of(slot); }
  bool has_state(TierRow row, unsigned states) const;
  void put(TierRow row, Entry entry) { index_->put(row.value, entry); }
  Slot take_slot_for_resident();
  bool evict_one();
  void fill(Slot slot, TierRow row, const std::byte* bytes, unsigned states);
  void stage(Slot slot, TierRow row, const std::byte* bytes);
  void replace(Slot old, Slot slot, TierRow row, const std::byte* bytes);
  void drop(Slot slot);
  void retire(Slot slot);
  bool adopt(TierRow row);
  void forget_former(TierRow row);
  void replace_former(TierRow row, const std::byte* bytes);

  const TierPlan plan_;
  const std::uint64_t seed_;
  const SlowOffsets slow_offsets_;

  std::mutex mutex_;
  TierBytes bytes_;
  Region vectors_;
  std::unique_ptr<RowIndex> index_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::unique_ptr<AccessCounts> accesses_;  ///< null: rows are not read in place
  SlotTable slots_;
  SlotAllocator allocator_;
  Pins pins_;
  InFlightReads reads_;
  Slot resident_ = 0;  ///< without staged rows
  std::atomic<Slot> num_dirty_{0};
  TierCounts counts_;
  FormerRows former_;         ///< not empty only while rows move here
  std::size_t released_ = 0;  ///< bytes of a former tier
};

}  // namespace tieralloc
