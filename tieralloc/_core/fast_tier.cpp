// fast_tier.cpp: slots handed out, filled, named in the index, evicted and taken back.
#include "fast_tier.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace tieralloc {
namespace {

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

void TierCounts::add(const TierCounts& other) {
  evictions += other.evictions;
  advised_evictions += other.advised_evictions;
  bypassed += other.bypassed;
  prefetches_issued += other.prefetches_issued;
  prefetches_useless += other.prefetches_useless;
  write_backs += other.write_backs;
  write_back_errors += other.write_back_errors;
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
      time_for_use_(std::max<Slot>(1, plan.capacity / 8)),
      homes_(std::move(homes)),
      gate_(gate),
      bytes_(tier_bytes(plan, policy)),
      vectors_(std::size_t{plan.slots} * plan.stride, "fast tier's vectors"),
      index_(make_row_index(plan.rows, plan.slots)),
      policy_(make_eviction_policy(policy, {.capacity = policy_capacity(plan),
                                            .slots = plan.slots,
                                            .seed = seed,
                                            .observer = this})),
      random_(seed),
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

Slot FastTier::take_slot() {
  if (free_ == kNoSlot && retired_ != kNoSlot) {
    const std::uint64_t oldest = gate_.oldest_read();
    while (retired_ != kNoSlot && row_of_.as<std::uint64_t>()[retired_] < oldest) {
      free_slot(std::exchange(retired_, next_.as<Slot>()[retired_]));
    }
  }
  if (free_ == kNoSlot) return kNoSlot;
  return std::exchange(free_, next_.as<Slot>()[free_]);
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
  // A reader may clear the flag at this moment: whoever does has the row count.
  if (clear_prefetched(row)) ++counts_.prefetches_useless;
  index_->erase(row);
  retire(slot);
}

/// A victim of the policy: a clean one is gone at once, a dirty one stays readable until it is
/// written back.
void FastTier::leave(Slot slot) {
  ++counts_.evictions;
  ++turnover_;
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
    Slot victim = advised_victim();
    if (victim == kNoSlot) victim = policy_->evict();
    if (victim == kNoSlot) {
      free_slot(slot);
      return kNoSlot;
    }
    leave(victim);
  }
  return slot;
}

/// Whether a row that leaves this slot costs nothing.
bool FastTier::evictable(Slot slot) const {
  return (state_.as<std::uint8_t>()[slot] & (kHeld | kDirty | kPinned | kLeaving)) == kHeld;
}

/// The next row advised to leave that still can; the policy is told. A dirty one may stay: it would
/// have to be written back first.
Slot FastTier::advised_victim() {
  while (advised_rows() > 0) {
    const Entry entry = index_->find(advice_->pop());
    if (entry == kAbsent || !evictable(slot_of(entry))) continue;
    policy_->remove(slot_of(entry));
    ++counts_.advised_evictions;
    return slot_of(entry);
  }
  return kNoSlot;
}

std::size_t FastTier::advise_evictions(std::span<const RowId> rows, std::size_t most) {
  if (advice_ == nullptr) {
    advice_ = std::make_unique<Advice>(most_advised(capacity_));
  }
  std::size_t taken = 0;
  for (const RowId row : rows) {
    if (taken == most) break;
    // What has left since it was drawn would only take room, and be taken for advice that is there.
    const Entry entry = index_->find(row);
    if (entry == kAbsent || !evictable(slot_of(entry))) continue;
    taken += advice_->push({&row, 1});
  }
  return taken;
}

/// Whether a row was prefetched and may still find its use. What is known of a row is from its
/// accesses, and of this one the next is what counts: nobody can judge it before it has had time.
bool FastTier::awaits_use(Slot slot) {
  std::uint8_t& state = state_.as<std::uint8_t>()[slot];
  if (!(state & kAwaitsUse)) return false;
  const bool unused = is_prefetched(index_->find(row_of_.as<RowId>()[slot]));
  if (unused && turnover_ - next_.as<std::uint32_t>()[slot] < time_for_use_) return true;
  state &= ~kAwaitsUse;
  return false;
}

void FastTier::sample_residents(std::size_t draws, std::vector<RowId>& rows) {
  const bool all = draws >= resident_;
  for (std::size_t i = 0; i < (all ? slots_ : draws); ++i) {
    const Slot slot = all ? static_cast<Slot>(i) : random_.below(slots_);
    if (!evictable(slot) || awaits_use(slot)) continue;
    const RowId row = row_of_.as<RowId>()[slot];
    if (advice_ == nullptr || !advice_->contains(row)) rows.push_back(row);
  }
}

void FastTier::use_policy(const std::string& name) {
  const TierPlan plan{stride_, rows_, capacity_, slots_, in_place_};
  const EvictionConfig config{
      .capacity = policy_capacity(plan), .slots = slots_, .seed = seed_, .observer = this};
  auto policy = make_eviction_policy(name, config);
  for (Slot slot = policy_->evict(); slot != kNoSlot; slot = policy_->evict()) {
    const RowId row = row_of_.as<RowId>()[slot];
    index_->clear_flag(row, kSaturatedFlag);
    policy->insert(slot, row);
  }
  policy_ = std::move(policy);
  bytes_ = tier_bytes(plan, name);
}

void FastTier::fill(Slot slot, RowId row, const std::byte* bytes, std::uint8_t state) {
  std::memcpy(bytes_of(slot), bytes, stride_);
  row_of_.as<RowId>()[slot] = row;
  state_.as<std::uint8_t>()[slot] = state | kHeld;
  withdraw_advice({&row, 1});
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
  fill(slot, row, bytes, why == Admit::prefetch ? kAwaitsUse : 0);
  if (why == Admit::prefetch) next_.as<std::uint32_t>()[slot] = turnover_;
  policy_->insert(slot, row);
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
