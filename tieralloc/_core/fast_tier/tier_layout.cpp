// tier_layout.cpp: sums over the parts of a tier.
#include "fast_tier/tier_layout.hpp"

#include <algorithm>

#include "eviction/policy.hpp"
#include "fast_tier/slot_table.hpp"
#include "index/row_index.hpp"
#include "slow_tier/access_counts.hpp"

namespace tieralloc {

Slot spare_slots(Slot capacity) {
  return std::clamp<Slot>(capacity / 16, 8, 1024);
}

TierBytes tier_bytes(const TierPlan& plan, const std::string& policy) {
  const EvictionConfig config{.capacity = policy_capacity(plan.capacity), .slots = plan.slots};
  TierBytes bytes;
  bytes.vectors = round_up(std::size_t{plan.slots} * plan.stride, kPage);
  bytes.index = round_up(row_index_bytes(plan.rows, plan.slots, max_direct_bytes(plan)), kPage);
  bytes.metadata = round_up(
      plan.slots * SlotTable::bytes_per_slot(plan.rows) + eviction_policy_bytes(policy, config),
      kPage);
  if (plan.in_place) bytes.metadata += AccessCounts::bytes(plan.capacity);
  return bytes;
}

}  // namespace tieralloc
