// fast_tier.cpp: admission, updates, eviction and write-back of rows.
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

void TierCounts::add(const TierCounts& other) {
  evictions += other.evictions;
  bypassed += other.bypassed;
  prefetches_issued += other.prefetches_issued;
  prefetches_useless += other.prefetches_useless;
  write_backs += other.write_backs;
  write_back_errors += other.write_back_errors;
}

FastTier::FastTier(const TierPlan& plan, std::vector<SlowExtent> extents, const std::string& policy,
                   std::uint64_t seed, EpochManager& epochs)
    : plan_(plan),
      seed_(seed),
      slow_offsets_(std::move(extents), plan.stride),
      bytes_(tier_bytes(plan, policy)),
      vectors_(std::size_t{plan.slots} * plan.stride, "fast tier's vectors"),
      index_(make_row_index(plan.rows, plan.slots)),
      policy_(make_eviction_policy(policy, eviction_config())),
      slots_(plan.slots),
      allocator_(plan.slots, slots_.words(), epochs),
      dirty_(plan, slots_),
      pins_(max_pins(plan), describe(plan)) {
  if (plan.in_place) accesses_ = std::make_unique<AccessCounts>(plan.capacity);
}

// PromotionPolicy and updates.

bool FastTier::admit(TierRow row, const std::byte* bytes, Admit reason) {
  const bool is_wanted = reason == Admit::pin || policy_->admits(row.value);
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

bool FastTier::store(TierRow row, const std::byte* bytes) {
  const Entry entry = find(row);
  const bool is_resident = entry != kAbsent && !slots_.has_any(slot_of(entry), kEvicted);
  const Slot slot = is_resident || plan_.in_place ? allocator_.take() : take_slot_for_resident();
  if (slot == kNoSlot) return false;
  if (!is_resident && plan_.in_place) return stage(slot, row, bytes, entry);
  reads_.invalidate(row);
  if (!is_resident) {
    store_new_resident(slot, row, bytes, entry);
    return true;
  }
  const Slot old = slot_of(entry);
  const bool is_pinned = slots_.has_any(old, kPinned);
  fill(slot, row, bytes, is_pinned ? kDirty | kPinned : kDirty);
  if (!is_pinned) policy_->move(old, slot);
  put(row, make_entry(slot, clear_prefetched(row)));
  retire(old);
  return true;
}

/// `victim` is the row's entry if it was evicted and not written back yet: its old value need not
/// be written any more.
void FastTier::store_new_resident(Slot slot, TierRow row, const std::byte* bytes, Entry victim) {
  fill(slot, row, bytes, kDirty);
  policy_->insert(slot, row.value);
  ++resident_;
  put(row, make_entry(slot, false));
  if (victim == kAbsent) return;
  dirty_.remove_victim(slot_of(victim));
  retire(slot_of(victim));
}

/// Stores a new value of a non-resident row in a spare slot until it is written back. `staged` is
/// the entry of an earlier value that is not written back yet.
bool FastTier::stage(Slot slot, TierRow row, const std::byte* bytes, Entry staged) {
  if (staged == kAbsent && !dirty_.has_room_for_victim()) {
    allocator_.free(slot);  // the remaining slots are for resident rows
    return false;
  }
  fill(slot, row, bytes, kDirty);
  put(row, make_entry(slot, false));
  if (staged == kAbsent) {
    dirty_.add_victim(slot);
  } else {
    dirty_.replace_victim(slot_of(staged), slot);
    retire(slot_of(staged));
  }
  return true;
}

void FastTier::discard(TierRow row) {
  reads_.invalidate(row);
  const Entry entry = find(row);
  if (entry == kAbsent) return;
  const Slot slot = slot_of(entry);
  if (slots_.has_any(slot, kEvicted)) {
    dirty_.remove_victim(slot);
  } else {
    if (slots_.has_any(slot, kPinned)) {
      pins_.release();
    } else {
      policy_->remove(slot);
    }
    --resident_;
  }
  drop(slot);
}

void FastTier::replace(TierRow row, const std::byte* bytes) {
  if (!is_pinned(row)) {
    discard(row);
    return;
  }
  reads_.invalidate(row);
  const Slot slot = slot_of(find(row));
  std::memcpy(bytes_of(slot), bytes, plan_.stride);
  if (slots_.has_any(slot, kDirty)) dirty_.count_clean();
  slots_.assign(slot, row, kPinned);
}

// Slots.

/// A slot for one more resident row. Evicts a row if the tier is full. kNoSlot if every spare slot
/// waits for readers or for a write-back.
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

/// Evicts the policy's victim. A clean row is dropped; a dirty one stays readable until it is
/// written back.
bool FastTier::evict_one() {
  const Slot victim = policy_->evict();
  if (victim == kNoSlot) return false;
  ++counts_.evictions;
  --resident_;
  if (slots_.has_any(victim, kDirty)) {
    dirty_.add_victim(victim);
  } else {
    drop(victim);
  }
  return true;
}

void FastTier::fill(Slot slot, TierRow row, const std::byte* bytes, unsigned states) {
  std::memcpy(bytes_of(slot), bytes, plan_.stride);
  slots_.assign(slot, row, states);
  if ((states & kDirty) != 0) dirty_.count_dirty();
}

void FastTier::drop(Slot slot) {
  // A reader may clear the flag at this moment: then the prefetch counts as useful.
  if (is_prefetched(index_->erase(slots_.row(slot).value))) ++counts_.prefetches_useless;
  retire(slot);
}

/// The slot is out of the index; it becomes free when its last reader is gone.
void FastTier::retire(Slot slot) {
  if (slots_.has_any(slot, kDirty)) dirty_.count_clean();
  slots_.reset(slot);
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
  if (slots_.has_any(slot, kEvicted)) {
    dirty_.remove_victim(slot);
    ++resident_;
  } else {
    policy_->remove(slot);
  }
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

// Write-back.

std::vector<DirtyRow> FastTier::collect_dirty(std::size_t max_rows, bool residents,
                                              std::byte* copies) {
  return dirty_.collect(max_rows, residents, [&](Slot slot, std::size_t place) {
    std::memcpy(copies + place * plan_.stride, row(slot), plan_.stride);
  });
}

void FastTier::written_back(std::span<const DirtyRow> rows, bool success) {
  for (const DirtyRow& written : rows) {
    // Updated or discarded meanwhile: the slot is retired, or holds another row.
    if (!slots_.has_any(written.slot, kWriting)) continue;
    if (!success) {
      ++counts_.write_back_errors;
      dirty_.retry(written.slot);
      continue;
    }
    ++counts_.write_backs;
    dirty_.clean(written.slot);
    if (slots_.has_any(written.slot, kEvicted)) drop(written.slot);
  }
  dirty_.compact();
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
  return slots_.has_any(slot, kPinned | kEvicted) ? kNoSlot : slot;
}

bool FastTier::collect() {
  std::lock_guard lock(mutex_);
  return planner()->collect(*this);
}

void FastTier::apply() {
  std::unique_lock lock(mutex_);
  planner()->apply(*this);
  const Slot reserve = std::min(planner()->reserve(), plan_.capacity);
  const Slot max_victims = (plan_.slots - plan_.capacity) / 2;
  for (Slot evicted = 0;
       resident_ + reserve > plan_.capacity && dirty_.num_victims() < max_victims;) {
    if (!evict_one()) return;
    if (++evicted % kEvictionsPerLock != 0) continue;
    lock.unlock();  // lookups go first
    lock.lock();
  }
}

}  // namespace tieralloc
