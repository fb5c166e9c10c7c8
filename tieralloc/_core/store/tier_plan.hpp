// tier_plan.hpp: divides a store's DRAM among its row sizes.
//
// Rows of one size share a fast tier, as objects of one size share a slab. The share of a size is
// proportional to the bytes of its rows (of `fast_rows`: to its rows), at least one row and at most
// all rows. The larger sizes divide the rest of the smaller ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fast_tier/fast_tier.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

struct FastBudget {
  std::uint64_t bytes = 0;  ///< all DRAM of the fast tiers; or
  std::uint64_t rows = 0;   ///< rows of all fast tiers; or
  bool none = false;        ///< no fast tier; rows are read in place
  bool in_place = false;    ///< whether rows are read in place
};

/// One plan per row size, in ascending order. Throws std::invalid_argument if the budget does not
/// contain one row of each size.
std::vector<TierPlan> plan_tiers(const std::vector<TableLayout>& tables, const FastBudget& budget,
                                 const std::string& policy);

/// Throws MemoryShortage if the plans need more memory than is available; `held` bytes are those of
/// tiers that they replace.
void check_memory(const std::vector<TierPlan>& plans, const std::string& policy,
                  std::uint64_t held);

/// Throws as both for a budget that no table could satisfy.
void check_budget(const FastBudget& budget, const std::string& policy);

}  // namespace tieralloc
