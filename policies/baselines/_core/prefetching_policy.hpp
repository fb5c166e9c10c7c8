// prefetching_policy.hpp: an eviction policy with a prefetcher as its planner.
//
// After each access the prefetcher gets the row and what the access found, and the policy hands its
// rows to the tier. Prefetched rows take slots in the same tier. Not for concurrent use.
#pragma once

#include <memory>

#include "eviction/policy.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc::baselines {

/// Makes an eviction policy as make_eviction_policy does, with a prefetcher that may have learned
/// before.
std::unique_ptr<EvictionPolicy> make_prefetching_policy(std::string_view name,
                                                        const EvictionConfig& config,
                                                        std::shared_ptr<RowPrefetcher> prefetcher);

}  // namespace tieralloc::baselines
