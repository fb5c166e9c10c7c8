// planning.hpp: a policy that plans between lookups, as a store runs it (planning.cpp).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "policy/cost_benefit.hpp"
#include "policy/learned_policy.hpp"
#include "store/fetcher.hpp"
#include "store/store_stats.hpp"

namespace tieralloc {

/// A policy that plans between lookups: the learned one, or one whose decisions come from outside.
struct PlannedPolicy {
  MakePolicy make;
  std::string simple = "s3fifo";  ///< decides while the planned policy pauses
  bool pauses = false;            ///< while it costs more than it saves
  bool in_background = true;      ///< false: `step_policy` makes its steps
};

/// A planned policy and how it does. What no lock is named for is the planning thread's, or under
/// Exclusive.
struct Planning {
  PlannedPolicy policy;
  std::vector<std::unique_ptr<EvictionPolicy>> parked;  ///< by tier, while the policy pauses
  CostBenefit cost_benefit;
  std::uint64_t pause_left = 0;  ///< lookups; 0: no pause
  std::uint64_t drained = 0;     ///< lookups before the last drain, or as last seen in a pause
  double lag_sum = 0;
  std::vector<RowPlace> prefetches;  ///< of this step

  std::mutex mutex;
  std::condition_variable wake;
  bool stopping = false;  ///< under `mutex`
  PolicyStats stats;      ///< under `mutex`
};

}  // namespace tieralloc
