// compact_table.hpp: the memory layout of a compact index.
//
// A bucket is one cache line: fifteen cells of 32 bits, and a count of the rows that found it full,
// which are in an overflow table (hash_table.hpp). A permutation of the rows' numbers spreads them
// over the buckets. So the bucket says most of a row's number, and a cell holds the rest of it
// (quotienting: Knuth, The Art of Computer Programming 3, 6.4, exercise 13), with flags and slot.
// A cell is one word, so a reader sees a whole entry or none.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "index/row_index.hpp"

namespace tieralloc {

struct CompactTable {
  using Cell = std::uint32_t;
  static constexpr int kCellsPerBucket = 15;
  static constexpr int kMaxWidth =
      30;  ///< bits of row and slot in a cell; its flags are an Entry's

  struct alignas(kCacheLine) Bucket {
    std::atomic<Cell> cells[kCellsPerBucket];
    std::atomic<std::uint32_t> overflows;
  };

  /// For rows below `rows`; `memory` has `buckets` of zeros.
  CompactTable(Bucket* memory, std::size_t buckets, RowId rows, Slot slots)
      : memory(memory),
        buckets(buckets),
        unused_bits(64 - std::max(1, static_cast<int>(std::bit_width(rows - 1)))),
        slot_mask(static_cast<Cell>((std::uint64_t{1} << std::bit_width(slots)) - 1)) {
    // Rows of one bucket have quotients at least `buckets` apart, of which the low bits are
    // dropped.
    const int dropped_bits = static_cast<int>(std::bit_width(buckets)) - 1;
    width = std::max(0, 64 - unused_bits - dropped_bits) + static_cast<int>(std::bit_width(slots));
  }

  struct Place {
    std::size_t bucket;
    Cell row_part;  ///< of the row's cell: the cell without flags and slot
  };

  /// The row's number is permuted in the high bits of a word, which are then divided into bucket,
  /// the high word of a product, and the rest, its low word.
  Place place_of(RowId row) const {
    std::uint64_t permuted = row * (0x9E3779B97F4A7C15u << unused_bits);
    permuted = (permuted ^ permuted >> 13) >> unused_bits << unused_bits;
    permuted *= 0xBF58476D1CE4E5B9u;
    const auto product = static_cast<unsigned __int128>(permuted) * buckets;
    const auto rest = static_cast<std::uint64_t>(product) >> (64 - width);
    return {static_cast<std::size_t>(product >> 64), static_cast<Cell>(rest) & ~slot_mask};
  }

  /// Whether a cell has the row of `row_part`. A free cell is 0; a slot is kept as slot + 1.
  static bool matches(Cell cell, Cell row_part, Cell slot_mask) {
    return ((cell & ~kEntryFlags) ^ row_part) - 1 < slot_mask;
  }
  static Cell cell_of(Cell row_part, Entry entry) { return row_part | entry; }
  /// kAbsent for a free cell.
  Entry entry_of(Cell cell) const { return cell & (kEntryFlags | slot_mask); }

  Bucket* memory;
  std::size_t buckets;
  int unused_bits;  ///< of a word, beside a row's number
  Cell slot_mask;
  int width;  ///< bits of row and slot
};

}  // namespace tieralloc
