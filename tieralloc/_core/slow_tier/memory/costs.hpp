// costs.hpp: measures the costs of rows in a slow pool in memory and in a fast tier.
#pragma once

#include "base/numa/placement.hpp"
#include "slow_tier/promotion.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

/// Gathers rows from some MiB of each kind of memory, alternating, without the CPU's caches. Takes
/// some milliseconds. If memory is short, both costs are 0.
LineCosts measure_line_costs(const SlowPool& pool, const NodeRequest& fast);

}  // namespace tieralloc
