// bag_call.hpp: a request for pooled rows of one table or many, as the caller states it.
//
// The memory belongs to the caller, and may change during the call. Therefore each use reads an
// index or offset once and checks the value that it read: a change gives wrong values or an error,
// no access out of bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

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

  /// Atomic, so that the compiler cannot load a checked value a second time.
  std::int64_t operator[](std::size_t i) const {
    return wide ? __atomic_load_n(static_cast<const std::int64_t*>(data) + i, __ATOMIC_RELAXED)
                : __atomic_load_n(static_cast<const std::int32_t*>(data) + i, __ATOMIC_RELAXED);
  }
};

/// The part of a call that one table serves.
struct TableSegment {
  const Table* table = nullptr;
  std::int64_t padding = -1;  ///< row that bags leave out; -1: none
};

/// Of an index outside of its table: an error; row 0; or the default row.
enum class BoundsCheck { fatal, warning, default_row };

/// The readers' share in a call (access_samples.hpp).
enum class Accesses { recorded, unrecorded, only_recorded };

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

  /// The end of a bag that begins at `begin`: the next bag begins there, the first one at 0. Throws
  /// std::invalid_argument if the offsets have changed since `validate` accepted them.
  std::size_t bag_end(std::size_t bag, std::size_t begin) const {
    std::size_t end = indices.size;
    if (offsets.data == nullptr) {
      end = bag + 1;
    } else if (bag + 1 < offsets.size) {
      end = static_cast<std::size_t>(offsets[bag + 1]);
    }
    if (end < begin || end > indices.size) refuse_changed_offsets();
    return end;
  }

  /// Fills in the lengths of the bags of a segment from `bag` on, which begins at `begin`: at most
  /// `max` bags, and of more than `max` rows only the first. Returns the end of the last bag.
  std::size_t take_lengths(std::size_t segment, std::size_t bag, std::size_t begin, std::size_t max,
                           std::vector<std::uint32_t>& lengths) const;

 private:
  [[noreturn]] static void refuse_changed_offsets();
};

/// Throws std::invalid_argument for a table that was dropped.
void check_live(const Table& table);

/// Returns the number of indices outside their table, which BoundsCheck::fatal does not permit.
/// Throws std::out_of_range for such an index under BoundsCheck::fatal, and std::invalid_argument
/// for offsets that do not ascend from 0 within the indices, for offsets or padding of rows to be
/// copied, or for rows of bytes to be pooled.
std::uint64_t validate(const BagCall& call);

/// The number of indices outside their table, per segment of a call that `validate` accepted.
std::vector<std::uint64_t> outside_of_segments(const BagCall& call);

/// As `validate`, for indices of one table, as update and prefetch take them.
std::uint64_t validate_rows(const Table& table, Integers indices, BoundsCheck bounds);

/// The row of a validated index. Throws std::out_of_range if the index has changed since.
TableRow row_at(const Table& table, Integers indices, std::size_t i);

}  // namespace tieralloc
