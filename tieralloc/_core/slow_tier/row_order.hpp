// row_order.hpp: the map from the rows of a table to the pages that an order gave them.
//
// Arranged rows lie in pages of their own, behind those of the others; the others keep their order
// and close the gaps. A page is a set of rows: within it, rows ascend. So the map stores the page
// of each arranged row only, and computes the rest:
//
//   find(row):  i = arranged rows below the row (row_set.hpp)
//               not arranged: the place is row - i
//               per bit of a page number, the lowest first, i = its place after a stable sort by
//               this bit                                      -> the place in a sort by pages
//               page and slot from the place; pages are in descending order of their lengths
//
// The sort by bits is a wavelet matrix (Claude, Navarro and Ordóñez, "The wavelet matrix",
// Information Systems 47, 2015) read as a radix sort. Memory: log2(pages) * 16/15 bits per arranged
// row, and those of the set.
//
// Immutable. Cost: O(log pages), a cache line per bit.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "slow_tier/page.hpp"
#include "slow_tier/ranked_bits.hpp"
#include "slow_tier/row_set.hpp"

namespace tieralloc {

class RowOrder {
 public:
  struct Place {
    bool is_arranged = false;
    std::uint64_t page = 0;   ///< among the arranged pages
    std::uint64_t place = 0;  ///< in the page; of a row that is not arranged, among such rows
  };

  /// `arranged` has the rows of each page, `page_lengths` their number. Throws
  /// std::invalid_argument with the first row or page that is invalid; `table` is its name.
  RowOrder(const std::string& table, std::uint64_t rows, std::uint32_t rows_per_page,
           std::span<const std::uint64_t> arranged, std::span<const std::uint32_t> page_lengths);

  Place find(std::uint64_t row) const;
  /// The row that is not arranged and has this place. Cost: O(log rows).
  std::uint64_t other_row(std::uint64_t place) const;

  std::uint64_t num_rows() const { return num_rows_; }
  std::uint64_t num_pages() const { return runs_.empty() ? 0 : runs_.back().end_page; }
  std::uint32_t rows_in(std::uint64_t page) const;
  std::uint64_t bytes() const;

  /// All arranged rows, page after page. Cost: O(rows of the table).
  std::vector<std::uint64_t> arranged() const;

 private:
  /// Pages of the same length, from the end of the run before.
  struct Run {
    std::uint32_t length = 0;
    std::uint64_t end_page = 0;
    std::uint64_t end_row = 0;
  };
  struct Level {
    RankedBits bits;
    std::uint64_t zeros = 0;
  };

  void add_levels(std::vector<std::uint64_t> pages);

  std::uint64_t rows_;
  std::uint64_t num_rows_ = 0;
  RowSet set_;
  std::vector<Level> levels_;
  std::vector<Run> runs_;
};

/// The address of a row of a table whose first page is at `base`, its first arranged page at
/// `arranged_base`. `order` may be null.
inline RowAddress address_in(const PageLayout& pages, std::uint64_t base,
                             std::uint64_t arranged_base, const RowOrder* order,
                             std::uint64_t row) {
  if (order == nullptr) return pages.address(base, row);
  const RowOrder::Place at = order->find(row);
  return at.is_arranged ? pages.address(arranged_base, at.page * pages.rows_per_page + at.place)
                        : pages.address(base, at.place);
}

}  // namespace tieralloc
