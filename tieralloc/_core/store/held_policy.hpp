// held_policy.hpp: holds a store's planned policy between two steps, so that what it has learnt can
// be saved, or replaced by what another one has learnt.
//
// Concurrency: one thread, the same for all calls. Lookups go on; their accesses wait for the next
// step, or are dropped if they are too many. Changes of the policy and the layout wait.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include "eviction/planner.hpp"

namespace tieralloc {

class Store;

class HeldPolicy {
 public:
  /// Throws std::invalid_argument for a closed store.
  explicit HeldPolicy(Store& store);

  /// By tier; empty without a planned policy.
  const std::vector<PlannerMemory>& tiers() const { return tiers_; }

  /// Lets a tier's policy go on from memory whose parts have been replaced.
  void adopt(std::size_t tier);

  /// Takes over the memory of another store's policy, in each tier where the keys are equal.
  void copy(const HeldPolicy& from);

 private:
  Store& store_;
  std::unique_lock<std::mutex> changing_;
  std::unique_lock<std::mutex> stepping_;
  std::vector<Planner*> planners_;  ///< by tier, also of a paused policy; null: not a planned one
  std::vector<PlannerMemory> tiers_;
};

}  // namespace tieralloc
