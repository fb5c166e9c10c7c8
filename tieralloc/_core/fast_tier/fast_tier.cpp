// fast_tier.cpp: slots handed out, filled, named in the index, evicted and taken back.
#include "fast_tier/fast_tier.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace tieralloc {
namespace {

constexpr Slot kEvictedAtATime = 16;

/// A policy is there for one row at least, in a tier of none too.
Slot policy_capacity(const TierPlan& plan) {
  return std::max<Slot>(1, plan.capacity);
}

}  // namespace

Slot spare_slots(Slot capacity) {
  return std::clamp<Slot>(capacity / 16, 8, 1024);
}

TierBytes tier_bytes(const TierPlan& plan, const std::string& policy) {
  TierBytes bytes;
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kPerSlot = sizeof(RowId) + sizeof(std::uint8_t) + sizeof(Slot);
  const EvictionConfig config{.capacity = policy_capacity(plan), .slots = plan.slots};
  bytes.vectors = round_up(std::size_t{plan.slots} * plan.stride, kPage);
  bytes.index = round_up(row_index_bytes(plan.rows, plan.slots), kPage);
  bytes.metadata = round_up(plan.slots * kPerSlot + eviction_policy_bytes(policy, config), kPage);
  if (plan.in_place) bytes.metadata += AccessCounts::bytes(plan.capacity);
  return bytes;
}

FastTier::FastTier(const TierPlan& plan, std::vector<RowHome> homes, const std::string& policy,
                   std::uint64_t seed, CallGate& gate)
    : stride_(plan.stride),
      rows_(plan.rows),
      capacity_(plan.capacity),
      slots_(plan.slots),
      in_place_(plan.in_place),
      seed_(seed),
      dirty_high_(std::max<Slot>(1, plan.capacity / 8)),
      dirty_low_(plan.capacity / 16),
      homes_(std::move(homes)),
      gate_(gate),
      bytes_(tier_bytes(plan, policy)),
      vectors_(std::size_t{plan.slots} * plan.stride, "fast tier's vectors"),
      index_(make_row_index(plan.rows, plan.slots)),
      policy_(make_eviction_policy(policy, eviction_config())),
      row_of_(plan.slots * sizeof(RowId), "fast tier's metadata"),
      state_(plan.slots, "fast tier's metadata"),
      next_(plan.slots * sizeof(Slot), "fast tier's metadata") {
  // Slots are taken in ascending order: neighbours in time are neighbours in memory.
  for (Slot slot = slots_; slot-- > 0;) free_slot(slot);
  leaving_.reserve(slots_ - capacity_);
  if (in_place_) accesses_ = std::make_unique<AccessCounts>(plan.capacity);
}

std::uint64_t FastTier::home_of(RowId row) const {
  const auto after =
      std::upper_bound(homes_.begin(), homes_.end(), row,
                       [](RowId wanted, const RowHome& home) { return wanted < home.first_row; });
  const RowHome& home = *(after - 1);
  return home.offset + (row - home.first_row) * stride_;
}

void FastTier::touch(std::span<const Slot> slots) {
  if (!can_evict()) return;
  if (policy_->touch_is_concurrent()) {
    policy_->touch(slots);
  } else {
    std::lock_guard lock(mutex_);
    policy_->touch(slots);
  }
}

FastTier::Flight* FastTier::find_flight(RowId row) {
  const auto it = flights_.find(row);
  return it == flights_.end() ? nullptr : &it->second;
}

bool FastTier::end_flight(RowId row, const FetchBatch* batch) {
  const auto it = flights_.find(row);
  if (it == flights_.end() || it->second.batch.get() != batch) return false;
  flights_.erase(it);
  return true;
}

/// Whoever reads the row from the slow tier now must not use what it gets, and nobody may join that
/// read.
void FastTier::make_stale(RowId row) {
  const auto it = flights_.find(row);
  if (it == flights_.end()) return;
  it->second.batch->item(it->second.item).stale.store(true, std::memory_order_release);
  flights_.erase(it);
}

/// A slot that was never used or given back; else the one retired first, once its last reader is
/// gone.
Slot FastTier::take_slot() {
  if (free_ != kNoSlot) return std::exchange(free_, next_.as<Slot>()[free_]);
  if (retired_ == kNoSlot) return kNoSlot;
  const std::uint64_t stamp = row_of_.as<std::uint64_t>()[retired_];
  if (stamp >= oldest_read_) oldest_read_ = gate_.oldest_read();
  if (stamp >= oldest_read_) return kNoSlot;
  return std::exchange(retired_, next_.as<Slot>()[retired_]);
}

void FastTier::free_slot(Slot slot) {
  next_.as<Slot>()[slot] = std::exchange(free_, slot);
}

/// The slot is out of the index; it comes back when its last reader is gone.
void FastTier::retire(Slot slot) {
  if (state_.as<std::uint8_t>()[slot] & kDirty) --dirty_;
  state_.as<std::uint8_t>()[slot] = 0;
  row_of_.as<std::uint64_t>()[slot] = gate_.retire_stamp();
  next_.as<Slot>()[slot] = kNoSlot;
  (retired_ == kNoSlot ? retired_ : next_.as<Slot>()[last_retired_]) = slot;
  last_retired_ = slot;
}

void FastTier::drop(Slot slot) {
  const RowId row = row_of_.as<RowId>()[slot];
  // A reader may clear the flag at this moment: then the row counts as used.
  if (is_prefetched(index_->erase(row))) ++counts_.prefetches_useless;
  retire(slot);
}

/// A victim of the policy: a clean one is gone at once, a dirty one stays readable until it is
/// written back.
void FastTier::leave(Slot slot) {
  ++counts_.evictions;
  --resident_;
  std::uint8_t& state = state_.as<std::uint8_t>()[slot];
  if (state & kDirty) {
    state |= kLeaving;
    leaving_.push_back(slot);
    cleaning_wish_.store(true, std::memory_order_relaxed);
  } else {
    drop(slot);
  }
}

/// A slot for one more resident row, whose place another one leaves if need be. kNoSlot where every
/// spare slot is waiting for readers or for its value to be written back.
Slot FastTier::slot_for_new() {
  const Slot slot = take_slot();
  if (slot == kNoSlot) return kNoSlot;
  while (resident_ >= capacity_) {
    if (evict_one()) continue;
    free_slot(slot);
    return kNoSlot;
  }
  return slot;
}

bool FastTier::evict_one() {
  const Slot victim = policy_->evict();
  if (victim == kNoSlot) return false;
  leave(victim);
  return true;
}

EvictionConfig FastTier::eviction_config() {
  return {
      .capacity = std::max<Slot>(1, capacity_), .slots = slots_, .seed = seed_, .observer = this};
}

std::unique_ptr<EvictionPolicy> FastTier::use_policy(std::unique_ptr<EvictionPolicy> policy,
                                                     const std::string& metadata) {
  for (Slot slot = policy_->evict(); slot != kNoSlot; slot = policy_->evict()) {
    const RowId row = row_of_.as<RowId>()[slot];
    index_->clear_flag(row, kSaturatedFlag);
    if (is_prefetched(index_->find(row))) {
      policy->insert_prefetched(slot, row);
    } else {
      policy->insert(slot, row);
    }
  }
  bytes_ = tier_bytes({stride_, rows_, capacity_, slots_, in_place_}, metadata);
  return std::exchange(policy_, std::move(policy));
}

/// Of a row that the policy holds.
Slot FastTier::find_slot(RowId row) const {
  const Entry entry = index_->find(row);
  if (entry == kAbsent) return kNoSlot;
  const Slot slot = slot_of(entry);
  return state_.as<std::uint8_t>()[slot] & (kPinned | kLeaving) ? kNoSlot : slot;
}

bool FastTier::collect() {
  std::lock_guard lock(mutex_);
  return planner()->collect(*this);
}

void FastTier::apply() {
  std::unique_lock lock(mutex_);
  planner()->apply(*this);
  const Slot reserve = std::min(planner()->reserve(), capacity_);
  const std::size_t most_leaving = (slots_ - capacity_) / 2;
  for (Slot evicted = 0; resident_ + reserve > capacity_ && leaving_.size() < most_leaving;) {
    if (!evict_one()) return;
    if (++evicted % kEvictedAtATime != 0) continue;
    lock.unlock();  // lookups go first
    lock.lock();
  }
}

void FastTier::fill(Slot slot, RowId row, const std::byte* bytes, std::uint8_t state) {
  std::memcpy(bytes_of(slot), bytes, stride_);
  row_of_.as<RowId>()[slot] = row;
  state_.as<std::uint8_t>()[slot] = state | kHeld;
  if (!(state & kDirty)) return;
  if (++dirty_ > dirty_high_) cleaning_wish_.store(true, std::memory_order_relaxed);
}

bool FastTier::admit(RowId row, const std::byte* bytes, Admit why) {
  const bool wanted = why == Admit::pin || policy_->admits(row);
  const Slot slot = wanted ? slot_for_new() : kNoSlot;
  if (slot == kNoSlot) {
    if (why != Admit::pin) ++counts_.bypassed;  // a pin is tried again
    return false;
  }
  fill(slot, row, bytes, 0);
  if (why == Admit::prefetch) {
    policy_->insert_prefetched(slot, row);
  } else {
    policy_->insert(slot, row);
  }
  ++resident_;
  index_->put(row, make_entry(slot, why == Admit::prefetch));
  return true;
}

bool FastTier::store(RowId row, const std::byte* bytes) {
  const Entry entry = index_->find(row);
  const bool resident = entry != kAbsent && !(state_.as<std::uint8_t>()[slot_of(entry)] & kLeaving);
  const Slot slot = resident || in_place_ ? take_slot() : slot_for_new();
  if (slot == kNoSlot) return false;
  if (!resident && in_place_) return store_in_passing(slot, row, bytes, entry);
  make_stale(row);
  if (!resident) {
    // A leaving row comes back as a new one; its old value need not be written any more.
    fill(slot, row, bytes, kDirty);
    policy_->insert(slot, row);
    ++resident_;
    index_->put(row, make_entry(slot, false));
    if (entry != kAbsent) {
      std::erase(leaving_, slot_of(entry));
      retire(slot_of(entry));
    }
    return true;
  }
  const Slot old = slot_of(entry);
  const bool pinned = state_.as<std::uint8_t>()[old] & kPinned;
  fill(slot, row, bytes, pinned ? kDirty | kPinned : kDirty);
  if (!pinned) policy_->move(old, slot);
  index_->put(row, make_entry(slot, clear_prefetched(row)));
  retire(old);
  return true;
}

/// A new value of a row that is not resident, which readers find in `slot` until it is home.
/// `former` is that of an earlier one that is still on its way.
bool FastTier::store_in_passing(Slot slot, RowId row, const std::byte* bytes, Entry former) {
  if (former == kAbsent && leaving_.size() >= slots_ - capacity_) {
    free_slot(slot);  // the others are for rows that are resident
    return false;
  }
  fill(slot, row, bytes, kDirty | kLeaving);
  index_->put(row, make_entry(slot, false));
  if (former != kAbsent) {
    std::replace(leaving_.begin(), leaving_.end(), slot_of(former), slot);
    retire(slot_of(former));
  } else {
    leaving_.push_back(slot);
  }
  cleaning_wish_.store(true, std::memory_order_relaxed);
  return true;
}

void FastTier::discard(RowId row) {
  make_stale(row);
  const Entry entry = index_->find(row);
  if (entry == kAbsent) return;
  const Slot slot = slot_of(entry);
  const std::uint8_t state = state_.as<std::uint8_t>()[slot];
  if (state & kLeaving) {
    std::erase(leaving_, slot);
  } else {
    if (state & kPinned) {
      --pinned_;
    } else {
      policy_->remove(slot);
    }
    --resident_;
  }
  drop(slot);
}

void FastTier::replaced(RowId row, const std::byte* bytes) {
  if (!is_pinned(row)) {
    discard(row);
    return;
  }
  make_stale(row);
  const Slot slot = slot_of(index_->find(row));
  std::memcpy(bytes_of(slot), bytes, stride_);
  std::uint8_t& state = state_.as<std::uint8_t>()[slot];
  if (state & kDirty) --dirty_;
  state = kHeld | kPinned;
}

void FastTier::reserve_pins(Slot count) {
  const Slot most = can_evict() && capacity_ > 0 ? capacity_ - 1 : capacity_;
  if (count > most - std::min(most, pinned_rows())) {
    throw std::invalid_argument(
        "cannot pin " + std::to_string(count) + " more rows: " + std::to_string(pinned_rows()) +
        " of at most " + std::to_string(most) + " are pinned (the fast tier has " +
        std::to_string(capacity_) + " slots for rows of " + std::to_string(stride_) + " bytes)");
  }
  pinned_ += count;
}

bool FastTier::pin(RowId row) {
  const Slot slot = slot_of(index_->find(row));
  std::uint8_t& state = state_.as<std::uint8_t>()[slot];
  if (state & kPinned) {
    --pinned_;
    return false;
  }
  if (state & kLeaving) {
    std::erase(leaving_, slot);
    state &= ~kLeaving;
    ++resident_;
  } else {
    policy_->remove(slot);
  }
  state |= kPinned;
  return true;
}

void FastTier::unpin(RowId row) {
  if (!is_pinned(row)) return;
  const Slot slot = slot_of(index_->find(row));
  state_.as<std::uint8_t>()[slot] &= ~kPinned;
  --pinned_;
  policy_->insert(slot, row);
}

bool FastTier::is_pinned(RowId row) const {
  const Entry entry = index_->find(row);
  return entry != kAbsent && (state_.as<std::uint8_t>()[slot_of(entry)] & kPinned);
}

bool FastTier::is_leaving(RowId row) const {
  const Entry entry = index_->find(row);
  return entry != kAbsent && (state_.as<std::uint8_t>()[slot_of(entry)] & kLeaving);
}

std::vector<DirtyRow> FastTier::collect_dirty(std::size_t most, bool all, std::byte* copies) {
  std::vector<DirtyRow> rows;
  const auto collect = [&](Slot slot) {
    std::memcpy(copies + rows.size() * stride_, bytes_of(slot), stride_);
    state_.as<std::uint8_t>()[slot] |= kWriting;
    rows.push_back({slot, row_of_.as<RowId>()[slot]});
  };
  for (auto it = leaving_.begin(); it != leaving_.end() && rows.size() < most; ++it) collect(*it);
  for (Slot seen = 0; all && seen < slots_ && rows.size() < most; ++seen) {
    const Slot slot = clean_hand_;
    clean_hand_ = clean_hand_ + 1 == slots_ ? 0 : clean_hand_ + 1;
    const std::uint8_t state = state_.as<std::uint8_t>()[slot];
    if ((state & kDirty) && !(state & kLeaving)) collect(slot);
  }
  return rows;
}

void FastTier::written_back(std::span<const DirtyRow> rows, bool success) {
  for (const DirtyRow& written : rows) {
    std::uint8_t& state = state_.as<std::uint8_t>()[written.slot];
    // Updated or discarded meanwhile: the slot is retired, or another row's.
    if (!(state & kWriting)) continue;
    state &= ~kWriting;
    if (!success) {
      ++counts_.write_back_errors;
      if (state & kLeaving) {  // to the end, or it would keep others from their turn
        std::erase(leaving_, written.slot);
        leaving_.push_back(written.slot);
      }
      continue;
    }
    ++counts_.write_backs;
    state &= ~kDirty;
    --dirty_;
    if (state & kLeaving) drop(written.slot);
  }
  std::erase_if(leaving_, [&](Slot slot) { return !(state_.as<std::uint8_t>()[slot] & kLeaving); });
}

}  // namespace tieralloc
