// types.hpp: slots, row numbers and memory units that every room uses.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tieralloc {

/// The number of a place for one row in the fast pool.
using Slot = std::uint32_t;
inline constexpr Slot kNoSlot = 0xFFFFFFFFu;

/// A row's number in a component that sees one numbering only: index, eviction, policy, simulator.
/// In a store that numbering is TierRow.
using RowId = std::uint64_t;
inline constexpr RowId kNoRow = ~RowId{0};

// A store has three numberings of rows. They are distinct types, so that a mix-up does not compile.

/// A row's number in its table.
struct TableRow {
  RowId value = 0;
  friend constexpr auto operator<=>(TableRow, TableRow) = default;
};

/// A row's number among the rows of all tables that share a fast tier.
struct TierRow {
  RowId value = 0;
  friend constexpr auto operator<=>(TierRow, TierRow) = default;
};

/// A row's number among the rows of all tables of the store, as a trace counts them.
struct StoreRow {
  RowId value = 0;
  friend constexpr auto operator<=>(StoreRow, StoreRow) = default;
};

constexpr TableRow operator-(TableRow row, TableRow first) {
  return {row.value - first.value};
}
constexpr TierRow operator+(TierRow first, TableRow row) {
  return {first.value + row.value};
}
constexpr TableRow operator-(TierRow row, TierRow first) {
  return {row.value - first.value};
}
constexpr StoreRow operator+(StoreRow first, TableRow row) {
  return {first.value + row.value};
}
constexpr TableRow operator-(StoreRow row, StoreRow first) {
  return {row.value - first.value};
}

/// The plain numbers of rows, for components that see one numbering only.
inline std::span<const RowId> row_ids(std::span<const TierRow> rows) {
  static_assert(sizeof(TierRow) == sizeof(RowId) && alignof(TierRow) == alignof(RowId));
  return {reinterpret_cast<const RowId*>(rows.data()), rows.size()};
}
inline RowId* row_ids(TierRow* rows) {
  return reinterpret_cast<RowId*>(rows);
}

inline constexpr std::size_t kCacheLine = 64;
inline constexpr std::size_t kPage = 4096;

/// Prefetches a cache line into the second level. Prefetches into the first level share few buffers
/// with loads; past them, random reads of rows keep half as many lines again in flight.
inline void prefetch_to_l2(const void* line) {
  __builtin_prefetch(line, 0, 2);
}

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace tieralloc
