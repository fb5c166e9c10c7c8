// page.hpp: pages of a slow tier's file: where rows lie in them, and the checksum that guards them.
//
//   page    rows, side by side; unused bytes, zero; footer (the last 16 bytes)
//   footer  page number, generation, CRC-32C of all bytes before it
//
// No row straddles pages. A page is 4 KiB, or for a larger row as many times 4 KiB as one row and
// the footer take. A page of zeros is valid: no row of it was ever written. The page number, which
// is the page's offset in the file over 4 KiB, detects pages that were written to a wrong place.
//
// A pool without checksums (memory, files of version 1) lays rows out densely: each row is a page.
// In a checkpoint, which others wrote, such a page may begin at any byte, and gaps may follow it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/types.hpp"

namespace tieralloc {

struct PageFooter {
  std::uint64_t number = 0;      ///< offset of the page / kPage
  std::uint32_t generation = 0;  ///< writes of the page, modulo 2**32
  std::uint32_t checksum = 0;    ///< of the page without this field
};
static_assert(sizeof(PageFooter) == 16);

/// The place of a row in a slow pool.
struct RowAddress {
  std::uint64_t page = 0;  ///< offset of its page
  std::uint32_t at = 0;    ///< offset in the page
  std::uint32_t page_bytes = 0;
  bool has_footer = false;
  std::uint64_t offset() const { return page + at; }
};

/// The layout of rows of one size.
struct PageLayout {
  std::uint32_t stride = 0;
  std::uint32_t page_bytes = 0;
  std::uint32_t page_stride = 0;  ///< from one page to the next
  std::uint32_t rows_per_page = 1;
  bool has_footer = false;

  static constexpr PageLayout dense(std::uint32_t stride) { return strided(stride, stride); }
  /// Rows of `row_bytes`, `stride` bytes from one to the next.
  static constexpr PageLayout strided(std::uint32_t row_bytes, std::uint32_t stride) {
    return {stride, row_bytes, stride, 1, false};
  }

  static constexpr PageLayout paged(std::uint32_t stride) {
    const auto bytes = static_cast<std::uint32_t>(round_up(stride + sizeof(PageFooter), kPage));
    const auto rows = static_cast<std::uint32_t>((kPage - sizeof(PageFooter)) / stride);
    return {stride, bytes, bytes, rows == 0 ? 1 : rows, true};
  }

  /// Of row `row` of a table whose first page is at `base`.
  constexpr RowAddress address(std::uint64_t base, std::uint64_t row) const {
    return {base + row / rows_per_page * page_stride,
            static_cast<std::uint32_t>(row % rows_per_page) * stride, page_bytes, has_footer};
  }
  constexpr std::uint64_t num_pages(std::uint64_t rows) const {
    return (rows + rows_per_page - 1) / rows_per_page;
  }
  constexpr std::uint64_t bytes(std::uint64_t rows) const { return num_pages(rows) * page_bytes; }
};

/// Writes the footer of a page at `offset`.
void seal_page(std::byte* page, std::size_t page_bytes, std::uint64_t offset,
               std::uint32_t generation);

PageFooter footer_of(const std::byte* page, std::size_t page_bytes);

/// Whether the page is what `seal_page` made for this offset, or zero.
bool is_valid_page(const std::byte* page, std::size_t page_bytes, std::uint64_t offset);

}  // namespace tieralloc
