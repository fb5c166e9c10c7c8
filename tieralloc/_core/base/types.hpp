// types.hpp: the few words every part of the core shares.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tieralloc {

/// A place for one row in the fast pool.
using Slot = std::uint32_t;
inline constexpr Slot kNoSlot = 0xFFFFFFFFu;

/// A row's number among all rows that share a fast pool: its table's first number plus its index in
/// the table.
using RowId = std::uint64_t;
inline constexpr RowId kNoRow = ~RowId{0};

inline constexpr std::size_t kCacheLine = 64;

/// Asks for a cache line without occupying one of the few buffers that loads into the first level
/// go through: random reads of rows keep half as many lines again in flight.
inline void prefetch_to_l2(const void* line) {
  __builtin_prefetch(line, 0, 2);
}

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace tieralloc
