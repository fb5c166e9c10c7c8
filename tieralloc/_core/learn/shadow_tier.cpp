#include "shadow_tier.hpp"

#include <algorithm>
#include <utility>

namespace tieralloc {

ShadowTier::ShadowTier(const std::string& policy, std::uint32_t capacity, std::uint64_t seed)
    : capacity_(capacity),
      seed_(seed),
      policy_name_(policy),
      policy_(
          make_eviction_policy(policy, {.capacity = capacity, .slots = capacity, .seed = seed})),
      advice_(most_advised(capacity)),
      random_(seed),
      row_in_(capacity),
      unused_since_(capacity) {}

bool ShadowTier::access(RowId row) {
  ++lookups_;
  const auto held = slot_of_.find(row);
  if (held != slot_of_.end()) {
    if (std::exchange(unused_since_[held->second], kUsed) != kUsed) ++prefetches_useful_;
    policy_->touch({&held->second, 1});
    return true;
  }
  ++misses_;
  admit(row, false);
  return false;
}

void ShadowTier::prefetch(RowId row) {
  if (holds(row)) return;
  ++prefetches_issued_;
  admit(row, true);
}

void ShadowTier::admit(RowId row, bool ahead) {
  if (!policy_->admits(row)) return;
  advice_.withdraw({&row, 1});
  const Slot slot = free_slot();
  slot_of_.emplace(row, slot);
  row_in_[slot] = row;
  unused_since_[slot] = ahead ? evictions_ : kUsed;
  policy_->insert(slot, row);
}

Slot ShadowTier::free_slot() {
  if (resident_ < capacity_) return resident_++;
  Slot victim = advised_victim();
  if (victim == kNoSlot) victim = policy_->evict();
  ++evictions_;
  if (unused_since_[victim] != kUsed) ++prefetches_useless_;
  slot_of_.erase(row_in_[victim]);
  return victim;
}

bool ShadowTier::awaits_use(Slot slot) const {
  const std::uint64_t time_for_use = std::max(capacity_ / 8, 1u);
  return unused_since_[slot] != kUsed && evictions_ - unused_since_[slot] < time_for_use;
}

Slot ShadowTier::advised_victim() {
  while (advice_.size() > 0) {
    const auto held = slot_of_.find(advice_.pop());
    if (held == slot_of_.end()) continue;
    policy_->remove(held->second);
    ++advised_evictions_;
    return held->second;
  }
  return kNoSlot;
}

std::size_t ShadowTier::advise_evictions(std::span<const RowId> rows, std::size_t most) {
  std::size_t taken = 0;
  for (const RowId row : rows) {
    if (taken == most) break;
    if (slot_of_.contains(row)) taken += advice_.push({&row, 1});
  }
  return taken;
}

void ShadowTier::sample_residents(std::size_t draws, std::vector<RowId>& rows) {
  const bool all = draws >= resident_;
  for (std::size_t i = 0; i < (all ? resident_ : draws); ++i) {
    const auto slot = all ? static_cast<Slot>(i) : random_.below(resident_);
    if (!awaits_use(slot) && !advice_.contains(row_in_[slot])) rows.push_back(row_in_[slot]);
  }
}

void ShadowTier::use_policy(const std::string& name) {
  auto policy =
      make_eviction_policy(name, {.capacity = capacity_, .slots = capacity_, .seed = seed_});
  for (Slot slot = policy_->evict(); slot != kNoSlot; slot = policy_->evict()) {
    policy->insert(slot, row_in_[slot]);
  }
  policy_ = std::move(policy);
  policy_name_ = name;
}

std::size_t ShadowTier::bytes() const {
  // A node: its successor, the row and its slot, what the allocator keeps of it; and a bucket.
  constexpr std::size_t kMapEntry = 8 + 16 + 8 + 8;
  const EvictionConfig config{.capacity = capacity_, .slots = capacity_};
  return eviction_policy_bytes(policy_name_, config) + Advice::bytes(most_advised(capacity_)) +
         capacity_ * (sizeof(RowId) + sizeof(std::uint64_t) + kMapEntry);
}

}  // namespace tieralloc
