// tier_plan.hpp: the division of a store's DRAM among its row sizes.
//
// Rows of one size share a fast tier, as objects of one size share a slab. Every size gets a share
// in proportion to its rows' bytes (of `fast_rows`: to its rows), at least one row's worth, and no
// more than holds all its rows: what a small one leaves, the larger ones divide.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fast_tier/fast_tier.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

struct FastBudget {
  std::uint64_t bytes = 0;  ///< all DRAM of the fast tiers; or
  std::uint64_t rows = 0;   ///< rows in them; or
  bool none = false;        ///< no copies at all, where rows are read in place
  bool in_place = false;    ///< whether they are
};

/// One plan a row size, in ascending order of size. Throws std::invalid_argument where the budget
/// is less than a row of each size.
std::vector<TierPlan> plan_tiers(const std::vector<TableLayout>& tables, const FastBudget& budget,
                                 const std::string& policy);

/// Throws MemoryShortage where the plans take more than the machine has left; `held` bytes are
/// those of tiers that they replace.
void check_memory(const std::vector<TierPlan>& plans, const std::string& policy,
                  std::uint64_t held);

/// Throws as both do, for a budget that suits no tables at all.
void check_budget(const FastBudget& budget, const std::string& policy);

}  // namespace tieralloc
