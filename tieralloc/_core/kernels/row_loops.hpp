// row_loops.hpp: vectorised loops over the indices of a lookup: check, number, locate.
//
// Functions are pure; any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/types.hpp"
#include "index/row_index.hpp"

namespace tieralloc {

struct RowLoops {
  /// The number of indices outside 0 ... rows-1.
  std::uint64_t (*count_outside_64)(const std::int64_t* indices, std::size_t n, std::uint64_t rows);
  std::uint64_t (*count_outside_32)(const std::int32_t* indices, std::size_t n, std::uint64_t rows);

  /// The numbers of n rows of a table whose rows are numbered from `first` on. An index outside the
  /// table becomes row 0 of the table.
  void (*number_64)(const std::int64_t* indices, std::size_t n, std::uint64_t rows, RowId first,
                    RowId* numbered);
  void (*number_32)(const std::int32_t* indices, std::size_t n, std::uint64_t rows, RowId first,
                    RowId* numbered);

  /// Addresses of the slots of n entries, null for absent rows. Returns the union of the entries'
  /// flags and the number of resident rows.
  struct Located {
    Entry flags = 0;
    std::size_t found = 0;
  };
  Located (*locate)(const Entry* entries, std::size_t n, const std::byte* slots, std::size_t stride,
                    const std::byte** addresses);
};

/// The loops for this processor.
const RowLoops& row_loops();

}  // namespace tieralloc
