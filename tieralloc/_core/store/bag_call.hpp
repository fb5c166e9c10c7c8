// bag_call.hpp: one request for pooled rows, of one table or of many, as its caller states it.
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

/// One table's share of a call.
struct TablePart {
  const Table* table = nullptr;
  std::int64_t padding = -1;  ///< row that bags leave out; -1: none
};

enum class BoundsCheck { fatal, warning };

/// Bag `b` of part `t` is `indices[offsets[t * bags + b] … offsets[t * bags + b + 1])`; its result
/// stands in line `b` of `out`, behind those of the parts before `t`.
struct BagCall {
  std::span<const TablePart> parts;
  std::size_t bags = 0;  ///< of each part
  Integers indices;
  Integers offsets;  ///< parts * bags, with or without the end of the last; no data: every index is
                     ///< a bag
  const void* weights =
      nullptr;  ///< one an index, float32, or float64 for rows of float64; null: none
  Mode mode = Mode::sum;
  BoundsCheck bounds = BoundsCheck::fatal;
  std::byte* out = nullptr;
  std::size_t out_stride = 0;  ///< bytes a line
  DType out_dtype = DType::float32;

  std::size_t bag_begin(std::size_t bag) const {
    return offsets.data == nullptr ? bag : static_cast<std::size_t>(offsets[bag]);
  }
  std::size_t bag_end(std::size_t bag) const {
    if (offsets.data == nullptr) return bag + 1;
    return bag + 1 < offsets.size ? static_cast<std::size_t>(offsets[bag + 1]) : indices.size;
  }
};

/// Checks a call and changes nothing. Throws std::invalid_argument for offsets that do not ascend
/// from 0 within the indices, or for offsets and padding of rows to be copied, and
/// std::out_of_range for an index outside its table. Returns the number of such indices, which only
/// BoundsCheck::warning lets through.
std::uint64_t validate(const BagCall& call);

/// The same for indices of a single table, as update and prefetch take them.
std::uint64_t validate_rows(const Table& table, Integers indices, BoundsCheck bounds);

/// The row of an index that has been checked. Throws std::out_of_range where the caller's memory
/// has changed since.
TableRow row_at(const Table& table, Integers indices, std::size_t i);

}  // namespace tieralloc
