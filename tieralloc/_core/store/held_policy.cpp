// held_policy.cpp: locks a planned policy, and copies what it has learnt.
#include "store/held_policy.hpp"

#include <algorithm>

#include "store/store.hpp"

namespace tieralloc {

HeldPolicy::HeldPolicy(Store& store) : store_(store) {
  store.check_fork();
  changing_ = std::unique_lock(store.use_policy_);
  store.ensure_layout();
  store.epochs_.check_open();
  Planning* planning = store.planning_.get();
  if (planning == nullptr) return;
  stepping_ = std::unique_lock(planning->step);
  for (std::size_t i = 0; i < store.tiers_.size(); ++i) {
    planners_.push_back(planning->parked.empty() ? store.tiers_[i]->planner()
                                                 : planning->parked[i]->planner());
    tiers_.push_back(planners_[i] == nullptr ? PlannerMemory{} : planners_[i]->memory());
  }
}

void HeldPolicy::adopt(std::size_t tier) {
  std::lock_guard lock(store_.tiers_[tier]->mutex());
  planners_[tier]->adopt_memory();
}

void HeldPolicy::copy(const HeldPolicy& from) {
  for (std::size_t tier = 0; tier < std::min(tiers_.size(), from.tiers_.size()); ++tier) {
    const PlannerMemory &own = tiers_[tier], &theirs = from.tiers_[tier];
    if (own.key.empty() || own.key != theirs.key) continue;
    for (std::size_t part = 0; part < own.parts.size(); ++part) {
      std::ranges::copy(theirs.parts[part], own.parts[part].begin());
    }
    adopt(tier);
  }
}

}  // namespace tieralloc
