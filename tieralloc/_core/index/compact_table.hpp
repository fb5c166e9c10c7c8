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
  static constexpr int kFlagBits = 2;
  static constexpr int kFlagsAt = 30;  ///< the lowest flag of an Entry

  struct alignas(kCacheLine) Bucket {
    std::atomic<Cell> cells[kCellsPerBucket];
    std::atomic<std::uint32_t> overflows;
  };

  /// For rows below `rows`; `memory` has `buckets` of zeros.
  CompactTable(Bucket* memory, std::size_t buckets, RowId rows, Slot slots)
      : memory(memory),
        buckets(buckets),
        row_bits(std::max(1, static_cast<int>(std::bit_width(rows - 1)))),
        slot_bits(static_cast<int>(std::bit_width(slots))),
        // Rows of one bucket have quotients at least `buckets` apart.
        dropped_bits(static_cast<int>(std::bit_width(buckets)) - 1) {}

  /// Bits of a cell.
  int width() const { return std::max(0, row_bits - dropped_bits) + kFlagBits + slot_bits; }

  struct Place {
    std::size_t bucket;
    Cell row_part;  ///< of the row's cell: the cell without flags and slot
  };

  Place place_of(RowId row) const {
    const std::uint64_t mask = (std::uint64_t{1} << row_bits) - 1;
    std::uint64_t permuted = row * 0x9E3779B97F4A7C15u & mask;
    permuted ^= permuted >> (row_bits + 1) / 2;
    permuted = permuted * 0xBF58476D1CE4E5B9u & mask;
    const std::uint64_t quotient = permuted * buckets;
    return {quotient >> row_bits,
            static_cast<Cell>((quotient & mask) >> dropped_bits << (slot_bits + kFlagBits))};
  }

  /// The largest value of a cell's flags and slot.
  Cell rest() const { return static_cast<Cell>((std::uint64_t{1} << (slot_bits + kFlagBits)) - 1); }
  /// Whether a cell has the row of `row_part`. A free cell is 0; a slot is kept as slot + 1.
  static bool matches(Cell cell, Cell row_part, Cell rest) { return (cell ^ row_part) - 1 < rest; }

  Cell flag_bits(Entry entry) const { return (entry >> kFlagsAt) << slot_bits; }
  Cell cell_of(Cell row_part, Entry entry) const {
    return row_part | flag_bits(entry) | (slot_of(entry) + 1);
  }
  /// kAbsent for a free cell.
  Entry entry_of(Cell cell) const {
    const Cell flags = cell >> slot_bits & ((1u << kFlagBits) - 1);
    return (cell & ((1u << slot_bits) - 1)) | flags << kFlagsAt;
  }

  Bucket* memory;
  std::size_t buckets;
  int row_bits;
  int slot_bits;
  int dropped_bits;
};

}  // namespace tieralloc
