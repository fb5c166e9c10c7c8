// costs.hpp: what rows of a slow pool in memory take beside rows of a fast tier.
#pragma once

#include "base/numa/placement.hpp"
#include "slow_tier/admission.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

/// Gathers rows from some MiB of each kind of memory, in turns, past the CPU's caches. Takes some
/// milliseconds. Where memory for it cannot be had both take the same.
LineCosts measure_line_costs(const SlowPool& pool, const NodeRequest& fast);

}  // namespace tieralloc
