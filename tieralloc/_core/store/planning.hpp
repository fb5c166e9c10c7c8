// planning.hpp: the state of a planned policy in a store (planning.cpp).
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

/// A policy that plans between lookups: the learned one, or an external one.
struct PlannedPolicy {
  MakePolicy make;
  std::string simple = "s3fifo";  ///< decides while the planned policy is paused
  bool pauses = false;            ///< pause it while it costs more than it saves
  bool in_background = true;      ///< false: `step_policy` makes its steps
};

/// A planned policy and its state. Members without a named lock belong to the planning thread, or
/// to the holder of an ExclusiveGuard.
struct Planning {
  PlannedPolicy policy;
  std::vector<std::unique_ptr<EvictionPolicy>> parked;  ///< by tier, while the policy is paused
  CostBenefit cost_benefit;
  std::uint64_t pause_left = 0;  ///< lookups; 0: no pause
  std::uint64_t drained = 0;     ///< lookups before the last drain, or at the last check of a pause
  double lag_sum = 0;
  std::vector<RowPlace> prefetches;  ///< of this step

  std::mutex step;  ///< held during each step in the background
  std::mutex mutex;
  std::condition_variable wake;
  bool stopping = false;  ///< under `mutex`
  PolicyStats stats;      ///< under `mutex`
};

}  // namespace tieralloc
