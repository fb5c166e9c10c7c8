// fast_tier.cpp: admission, updates and eviction of rows.
#include "fast_tier/fast_tier.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace tieralloc {
namespace {

constexpr Slot kEvictionsPerLock = 16;

/// One slot stays for rows that are not pinned, if there are such rows.
Slot max_pins(const TierPlan& plan) {
  return plan.capacity < plan.rows && plan.capacity > 0 ? plan.capacity - 1 : plan.capacity;
}

std::string describe(const TierPlan& plan) {
  return "the fast tier of " + std::to_string(plan.capacity) + " slots for rows of " +
         std::to_string(plan.stride) + " bytes";
}

}  // namespace

FastTier::FastTier(const TierPlan& plan, SlowOffsets slow_offsets, const std::string& policy,
                   std::uint64_t seed, EpochManager& epochs)
    : plan_(plan),
      seed_(seed),
      slow_offsets_(std::move(slow_offsets)),
      bytes_(tier_bytes(plan, policy)),
      vectors_(std::size_t{plan.slots} * plan.stride, "fast tier's vectors"),
      index_(make_row_index(plan.rows, plan.slots, max_direct_bytes(plan))),
      policy_(make_eviction_policy(policy, eviction_config())),
      slots_(plan.slots, plan.rows),
      allocator_(slots_, epochs),
      pins_(max_pins(plan), describe(plan)) {
  if (plan.in_place) accesses_ = std::make_unique<AccessCounts>(plan.capacity);
}

// Admission and updates.

bool FastTier::admit(TierRow row, const std::byte* bytes, Admit reason) {
  if (reason == Admit::warm_up && is_full()) return false;
  const bool is_wanted =
      reason == Admit::pin || reason == Admit::warm_up || policy_->admits(row.value);
  const Slot slot = is_wanted ? take_slot_for_resident() : kNoSlot;
  if (slot == kNoSlot) {
    if (reason != Admit::pin) ++counts_.bypassed;  // the caller tries a pin again
    return false;
  }
  fill(slot, row, bytes, 0);
  if (reason == Admit::prefetch) {
    policy_->insert_prefetched(slot, row.value);
  } else {
    policy_->insert(slot, row.value);
  }
  ++resident_;
  put(row, make_entry(slot, reason == Admit::prefetch));
  return true;
}

bool FastTier::update(TierRow row, const std::byte* bytes) {
  reads_.invalidate(row);
  if (!former_.empty()) replace_former(row, bytes);
  const Entry entry = find(row);
  if (entry == kAbsent && !plan_.in_place) return true;
  const Slot slot = allocator_.take();
  if (slot != kNoSlot) {
    if (entry == kAbsent) {
      stage(slot, row, bytes);
    } else {
      replace(slot_of(entry), slot, row, bytes);
    }
    return true;
  }
  if (plan_.in_place || slots_.has_any(slot_of(entry), kPinned)) return false;
  discard(row);  // the slow tier has the value
  return true;
}

void FastTier::stage(Slot slot, TierRow row, const std::byte* bytes) {
  fill(slot, row, bytes, kDirty | kStaged);
  put(row, make_entry(slot, false));
}

void FastTier::replace(Slot old, Slot slot, TierRow row, const std::byte* bytes) {
  const unsigned unknown_to_policy = slots_.states(old) & (kPinned | kStaged);
  const unsigned dirty = plan_.in_place ? unsigned{kDirty} : 0u;
  fill(slot, row, bytes, unknown_to_policy | dirty);
  if (unknown_to_policy == 0) policy_->move(old, slot);
  put(row, make_entry(slot, clear_prefetched(row)));
  retire(old);
}

void FastTier::clean(TierRow row) {
  if (!has_state(row, kDirty)) return;
  const Slot slot = slot_of(find(row));
  slots_.remove(slot, kDirty);
  --num_dirty_;
  if (slots_.has_any(slot, kStaged)) drop(slot);
}

void FastTier::discard(TierRow row) {
  reads_.invalidate(row);
  if (!former_.empty()) forget_former(row);
  const Entry entry = find(row);
  if (entry == kAbsent) return;
  const Slot slot = slot_of(entry);
  if (slots_.has_any(slot, kPinned)) {
    pins_.release();
  } else {
    policy_->remove(slot);
  }
  --resident_;
  drop(slot);
}

// Warm-up.

void FastTier::reinsert(TierRow row, std::optional<Standing> standing) {
  const Slot slot = find_slot(row.value);
  if (slot == kNoSlot || is_prefetched(find(row))) return;
  policy_->remove(slot);
  index_->clear_flag(row.value, kSaturatedFlag);
  if (standing) {
    policy_->insert_as(slot, row.value, *standing);
  } else {
    policy_->insert(slot, row.value);
  }
}

Standing FastTier::standing(TierRow row) const {
  const Slot slot = find_slot(row.value);
  return slot == kNoSlot ? Standing{} : policy_->standing(slot);
}

void FastTier::rank(std::span<const RankedRow> rows) {
  for (const auto& [row, standing] : rows) {
    const Slot slot = find_slot(row.value);
    if (slot == kNoSlot) continue;
    policy_->remove(slot);
    index_->clear_flag(row.value, kSaturatedFlag);
  }
  for (const auto& [row, standing] : rows) {
    const Slot slot = find_slot(row.value);
    if (slot == kNoSlot) continue;
    policy_->insert_as(slot, row.value, standing);
  }
}

void FastTier::list_resident(Slot first, Slot last, std::vector<TierRow>& rows) const {
  for (Slot slot = first; slot < std::min(last, plan_.slots); ++slot) {
    const TierRow row = resident_row(slot);
    if (row.value != kNoRow && !slots_.has_any(slot, kStaged)) rows.push_back(row);
  }
}

void FastTier::take_resident(std::vector<RankedRow>& rows) {
  std::vector<TierRow> listed;
  list_resident(0, plan_.slots, listed);
  std::vector<Standing> standings(plan_.slots);
  for (const TierRow row : listed) {
    if (!is_pinned(row)) standings[find_slot(row.value)] = standing(row);
  }
  for (Slot slot = policy_->evict(); slot != kNoSlot; slot = policy_->evict()) {
    rows.push_back({slots_.row(slot), standings[slot]});
  }
  for (const TierRow row : listed) {
    if (is_pinned(row)) rows.push_back({row, {}});
  }
}

// Slots.

/// A slot for one more resident row. Evicts a row if the tier is full. kNoSlot if readers or staged
/// rows hold every spare slot.
Slot FastTier::take_slot_for_resident() {
  const Slot slot = allocator_.take();
  if (slot == kNoSlot) return kNoSlot;
  while (resident_ >= plan_.capacity) {
    if (evict_one()) continue;
    allocator_.free(slot);
    return kNoSlot;
  }
  return slot;
}

/// Evicts the policy's victim. A dirty one stays readable until it is clean.
bool FastTier::evict_one() {
  const Slot victim = policy_->evict();
  if (victim == kNoSlot) return false;
  policy_->note_evicted(row_in(victim));
  ++counts_.evictions;
  --resident_;
  if (slots_.has_any(victim, kDirty)) {
    slots_.add(victim, kStaged);
  } else {
    drop(victim);
  }
  return true;
}

void FastTier::fill(Slot slot, TierRow row, const std::byte* bytes, unsigned states) {
  std::memcpy(bytes_of(slot), bytes, plan_.row_bytes);
  slots_.assign(slot, row, states);
  if ((states & kDirty) != 0) ++num_dirty_;
}

void FastTier::drop(Slot slot) {
  // A reader may clear the flag at this moment: then the prefetch counts as useful.
  if (is_prefetched(index_->erase(slots_.row(slot).value))) ++counts_.prefetches_useless;
  retire(slot);
}

/// The slot is out of the index; it becomes free when its last reader is gone.
void FastTier::retire(Slot slot) {
  if (slots_.has_any(slot, kDirty)) --num_dirty_;
  allocator_.retire(slot);
}

bool FastTier::has_state(TierRow row, unsigned states) const {
  const Entry entry = find(row);
  return entry != kAbsent && slots_.has_any(slot_of(entry), states);
}

// Pins.

bool FastTier::pin(TierRow row) {
  const Slot slot = slot_of(find(row));
  if (slots_.has_any(slot, kPinned)) {
    pins_.release();
    return false;
  }
  policy_->remove(slot);
  slots_.add(slot, kPinned);
  return true;
}

void FastTier::unpin(TierRow row) {
  if (!is_pinned(row)) return;
  const Slot slot = slot_of(find(row));
  slots_.remove(slot, kPinned);
  pins_.release();
  policy_->insert(slot, row.value);
}

// Policy.

EvictionConfig FastTier::eviction_config() {
  return {.capacity = policy_capacity(plan_.capacity),
          .slots = plan_.slots,
          .seed = seed_,
          .observer = this};
}

std::unique_ptr<EvictionPolicy> FastTier::use_policy(std::unique_ptr<EvictionPolicy> policy,
                                                     const std::string& metadata) {
  for (Slot slot = policy_->evict(); slot != kNoSlot; slot = policy_->evict()) {
    const RowId row = row_in(slot);
    index_->clear_flag(row, kSaturatedFlag);
    if (is_prefetched(index_->find(row))) {
      policy->insert_prefetched(slot, row);
    } else {
      policy->insert(slot, row);
    }
  }
  bytes_ = tier_bytes(plan_, metadata);
  return std::exchange(policy_, std::move(policy));
}

/// The slot of a row that the policy holds.
Slot FastTier::find_slot(RowId row) const {
  const Entry entry = index_->find(row);
  if (entry == kAbsent) return kNoSlot;
  const Slot slot = slot_of(entry);
  return slots_.has_any(slot, kPinned | kStaged) ? kNoSlot : slot;
}

bool FastTier::collect() {
  std::lock_guard lock(mutex_);
  return planner()->collect(*this);
}

void FastTier::apply() {
  std::unique_lock lock(mutex_);
  planner()->apply(*this);
  const Slot reserve = std::min(planner()->reserve(), plan_.capacity);
  for (Slot evicted = 0; resident_ + reserve > plan_.capacity;) {
    if (!evict_one()) return;
    if (++evicted % kEvictionsPerLock != 0) continue;
    lock.unlock();  // lookups go first
    lock.lock();
  }
}

}  // namespace tieralloc
