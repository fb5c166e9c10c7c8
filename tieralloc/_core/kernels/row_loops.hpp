// row_loops.hpp: what a lookup does to each of its indices besides finding and pooling, many at
// once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/types.hpp"
#include "index/row_index.hpp"

namespace tieralloc {

struct RowLoops {
  /// How many of n indices are not within 0 … rows-1.
  std::uint64_t (*count_outside_64)(const std::int64_t* indices, std::size_t n, std::uint64_t rows);
  std::uint64_t (*count_outside_32)(const std::int32_t* indices, std::size_t n, std::uint64_t rows);

  /// The rows that n indices of a table mean whose rows are numbered from `first` on; row 0 of the
  /// table for an index that is not within it.
  void (*number_64)(const std::int64_t* indices, std::size_t n, std::uint64_t rows, RowId first,
                    RowId* numbered);
  void (*number_32)(const std::int32_t* indices, std::size_t n, std::uint64_t rows, RowId first,
                    RowId* numbered);

  /// Addresses of n entries' slots, null for absent rows; returns all flags that an entry has set
  /// and how many rows are there.
  struct Located {
    Entry flags = 0;
    std::size_t found = 0;
  };
  Located (*locate)(const Entry* entries, std::size_t n, const std::byte* slots, std::size_t stride,
                    const std::byte** addresses);
};

/// The loops for this machine's processor.
const RowLoops& row_loops();

}  // namespace tieralloc
