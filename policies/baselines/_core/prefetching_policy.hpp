// prefetching_policy.hpp: an eviction policy with a prefetcher as its planner.
//
// The prefetcher observes each access with its result; the rows that it chooses are prefetched into
// the same tier. Not for concurrent use.
#pragma once

#include <memory>

#include "eviction/policy.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc::baselines {

/// Makes a named eviction policy with a prefetcher, which keeps its state. Throws as
/// make_eviction_policy does.
std::unique_ptr<EvictionPolicy> make_prefetching_policy(std::string_view name,
                                                        const EvictionConfig& config,
                                                        std::shared_ptr<RowPrefetcher> prefetcher);

}  // namespace tieralloc::baselines
