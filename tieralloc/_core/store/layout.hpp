// layout.hpp: the fast tiers for a set of tables and a budget, made while calls use the present
// ones.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/numa/placement.hpp"
#include "fast_tier/fast_tier.hpp"
#include "fast_tier/former_rows.hpp"
#include "fast_tier/resident_table.hpp"

namespace tieralloc {

struct Layout {
  /// Where the rows of a table are.
  struct Place {
    bool is_resident = false;
    std::unique_ptr<ResidentTable> resident{};  ///< null: the store's table has it already
    FastTier* tier = nullptr;                   ///< null: the table is resident
    TierRow first_row{};
  };
  std::vector<Place> places;  ///< by table
  std::vector<std::unique_ptr<FastTier>> tiers;
  std::uint64_t capacity = 0;
  std::optional<Placement> placement;
};

}  // namespace tieralloc
