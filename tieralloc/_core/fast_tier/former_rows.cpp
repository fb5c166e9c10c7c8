// former_rows.cpp: rows that move from the tiers that a tier replaces.
#include "fast_tier/former_rows.hpp"

#include <sys/mman.h>

#include <cstring>
#include <mutex>

#include "fast_tier/fast_tier.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kReleaseBytes = std::size_t{2} << 20;  // a huge page

}  // namespace

bool FastTier::adopt(TierRow row) {
  const FormerRows::Place place = former_.find(row);
  if (place.tier == nullptr || is_full()) return false;
  FastTier& former = *place.tier;
  std::lock_guard lock(former.mutex_);
  const Entry entry = former.find(place.row);
  const Slot slot = entry == kAbsent ? kNoSlot : allocator_.take();
  if (slot == kNoSlot) return false;
  reads_.invalidate(row);
  fill(slot, row, former.row(slot_of(entry)), 0);
  if (is_prefetched(entry)) {
    policy_->insert_prefetched(slot, row.value);
  } else {
    policy_->insert(slot, row.value);
  }
  ++resident_;
  put(row, make_entry(slot, is_prefetched(entry)));
  former.index_->erase(place.row.value);
  return true;
}

const std::byte* FastTier::former_copy(TierRow row) const {
  const FormerRows::Place place = former_.find(row);
  if (place.tier == nullptr) return nullptr;
  std::lock_guard lock(place.tier->mutex_);
  const Entry entry = place.tier->find(place.row);
  return entry == kAbsent ? nullptr : place.tier->row(slot_of(entry));
}

void FastTier::replace_former(TierRow row, const std::byte* bytes) {
  const FormerRows::Place place = former_.find(row);
  if (place.tier == nullptr) return;
  std::lock_guard lock(place.tier->mutex_);
  const Entry entry = place.tier->find(place.row);
  if (entry != kAbsent) std::memcpy(place.tier->bytes_of(slot_of(entry)), bytes, plan_.row_bytes);
}

void FastTier::forget_former(TierRow row) {
  const FormerRows::Place place = former_.find(row);
  if (place.tier == nullptr) return;
  std::lock_guard lock(place.tier->mutex_);
  place.tier->index_->erase(place.row.value);
}

bool FastTier::take_over(TierRow row, bool wanted) {
  const bool fits = wanted && find(row) == kAbsent && !is_full();
  if (fits) return adopt(row);
  forget_former(row);
  return true;
}

void FastTier::drain(std::vector<Slot>& slots) {
  for (Slot slot = policy_->evict(); slot != kNoSlot; slot = policy_->evict()) {
    slots.push_back(slot);
  }
}

TierRow FastTier::resident_row(Slot slot) const {
  const TierRow row = slots_.row(slot);  // of a free slot: no row that is in this slot
  if (row.value >= plan_.rows) return {kNoRow};
  const Entry entry = find(row);
  return entry != kAbsent && slot_of(entry) == slot ? row : TierRow{kNoRow};
}

void FastTier::release_below(Slot slot) {
  const std::size_t end =
      slot >= plan_.slots ? vectors_.size() : offset_of(slot) / kReleaseBytes * kReleaseBytes;
  if (end <= released_) return;
  madvise(vectors_.data() + released_, end - released_, MADV_DONTNEED);
  released_ = end;
}

}  // namespace tieralloc
