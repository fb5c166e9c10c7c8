// tier_plan.hpp: divides a store's DRAM among resident tables and, for the others, row sizes. The
// orders of tables come first (slow_tier/row_order.hpp).
//
// A table is resident, in DRAM as a whole, if its creator asked for it and `fast_bytes` holds it;
// or, by default, if it takes at most 1/64 of `fast_bytes`, and the resident tables up to it, in
// order of creation, at most 1/4. So a further table changes nothing for earlier ones. With
// `fast_rows`, which counts slots, no table is resident.
//
// Rows of one size share a fast tier, as objects of one size share a slab. The share of a size is
// proportional to the bytes of its rows (of `fast_rows`: to its rows), at least one row and at most
// all rows. The larger sizes divide the rest of the smaller ones.
//
// A table without rows has been dropped: it has no tier.
//
// A table with `reserved_bytes` has a fast tier of its own, of these bytes or of its share,
// whichever is more; the rows of its tier may not fill them.
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

/// One plan per row size, in ascending order, and one per reserved table. `taken` bytes of the
/// budget have another use. Throws std::invalid_argument if the rest does not contain one row of
/// each tier and all reserved bytes.
std::vector<TierPlan> plan_tiers(const std::vector<TableLayout>& tables, const FastBudget& budget,
                                 const std::string& policy, std::uint64_t taken = 0);

struct FastPlan {
  std::vector<bool> is_resident;  ///< by table
  std::vector<TierPlan> tiers;    ///< as of `plan_tiers`
  std::uint64_t bytes = 0;        ///< of all of them
};

/// Throws as `plan_tiers`.
FastPlan plan_fast(const std::vector<TableLayout>& tables, const FastBudget& budget,
                   const std::string& policy);

/// Throws MemoryShortage if a plan needs more memory than is available; `held` bytes are those of
/// tiers that it replaces, and become free while its tiers fill.
void check_memory(const FastPlan& plan, std::uint64_t held);

/// Throws as both for a budget that no table could satisfy.
void check_budget(const FastBudget& budget, const std::string& policy, std::uint64_t held = 0);

}  // namespace tieralloc
