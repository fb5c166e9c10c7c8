// bag_call.hpp: a request for pooled rows of one table or many, as the caller states it.
//
// The memory belongs to the caller, who may change it during the call: each index is checked again
// where it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.hpp"
#include "base/types.hpp"
#include "kernels/kernels.hpp"

namespace tieralloc {

struct Table;

/// Integers in the caller's memory, 32 or 64 bits wide.
struct Integers {
  const void* data = nullptr;
  std::size_t size = 0;
  bool wide = true;

  std::int64_t operator[](std::size_t i) const {
    return wide ? static_cast<const std::int64_t*>(data)[i]
                : static_cast<const std::int32_t*>(data)[i];
  }
};

/// The part of a call that one table serves.
struct TableSegment {
  const Table* table = nullptr;
  std::int64_t padding = -1;  ///< row that bags leave out; -1: none
};

enum class BoundsCheck { fatal, warning };

/// Bag `b` of segment `s` is `indices[offsets[s * bags + b] ... offsets[s * bags + b + 1])`. Its
/// result stands in line `b` of `out`, after the results of the segments before `s`.
struct BagCall {
  std::span<const TableSegment> segments;
  std::size_t bags = 0;  ///< per segment
  Integers indices;
  /// segments * bags, with or without the end of the last bag; no data: every index is a bag.
  Integers offsets;
  /// One per index: float32, or float64 for rows of float64; null: none.
  const void* weights = nullptr;
  Mode mode = Mode::sum;
  BoundsCheck bounds = BoundsCheck::fatal;
  std::byte* out = nullptr;
  std::size_t out_stride = 0;  ///< bytes per line
  DType out_dtype = DType::float32;

  std::size_t bag_begin(std::size_t bag) const {
    return offsets.data == nullptr ? bag : static_cast<std::size_t>(offsets[bag]);
  }
  std::size_t bag_end(std::size_t bag) const {
    if (offsets.data == nullptr) return bag + 1;
    return bag + 1 < offsets.size ? static_cast<std::size_t>(offsets[bag + 1]) : indices.size;
  }
};

/// Returns the number of indices outside their table, which only BoundsCheck::warning permits.
/// Throws std::out_of_range for such an index under BoundsCheck::fatal, and std::invalid_argument
/// for offsets that do not ascend from 0 within the indices, or for offsets or padding of rows to
/// be copied.
std::uint64_t validate(const BagCall& call);

/// The same for indices of one table, as update and prefetch take them.
std::uint64_t validate_rows(const Table& table, Integers indices, BoundsCheck bounds);

/// The row of a validated index. Throws std::out_of_range if the caller's memory has changed since.
TableRow row_at(const Table& table, Integers indices, std::size_t i);

}  // namespace tieralloc
