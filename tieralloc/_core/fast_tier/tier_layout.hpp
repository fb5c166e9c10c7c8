// tier_layout.hpp: the size of a fast tier, known before it is built.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/types.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

/// Bytes of the slot of a row: a multiple of 16, so that vectors of small rows fill their slots.
/// Packed rows fill words.
inline std::uint32_t slot_stride(const TableLayout& layout) {
  const std::uint64_t multiple = is_packed(layout.dtype) ? sizeof(std::uint32_t) : 16;
  return static_cast<std::uint32_t>(round_up(layout.row_bytes(), multiple));
}

/// Bytes that a slot takes from the slow tier, whose rows may end before their slots.
inline std::uint32_t copied_bytes(const TableLayout& layout) {
  return std::min(slot_stride(layout), layout.stride);
}

struct TierPlan {
  std::uint32_t stride = 0;             ///< bytes per slot
  std::uint32_t row_bytes = 0;          ///< of them, copied from the slow tier
  RowId rows = 0;                       ///< rows of all tables of this stride that share the tier
  Slot capacity = 0;                    ///< maximum of resident rows
  Slot slots = 0;                       ///< capacity and spare slots, which take new values of rows
  bool in_place = false;                ///< non-resident rows are read in the slow tier's memory
  std::vector<std::uint32_t> tables{};  ///< that share the tier, by position
};

/// Slots of a cache line or more leave room for 12 bytes of a direct index each, which with the
/// metadata of lru are 24.
inline std::size_t max_direct_bytes(const TierPlan& plan) {
  return plan.stride >= kCacheLine ? plan.slots * std::size_t{12} : 0;
}

struct TierBytes {
  std::size_t vectors = 0;
  std::size_t index = 0;
  std::size_t metadata = 0;
  std::size_t total() const { return vectors + index + metadata; }
};

/// Spare slots of a tier of `capacity` rows.
Slot spare_slots(Slot capacity);

/// A policy exists for at least one row, also in a tier without capacity.
constexpr Slot policy_capacity(Slot capacity) {
  return capacity == 0 ? 1 : capacity;
}

/// DRAM of a tier. Throws std::invalid_argument for an unknown policy.
TierBytes tier_bytes(const TierPlan& plan, const std::string& policy);

}  // namespace tieralloc
