// hash_table.hpp: the memory layout of a hash index.
//
// A bucket is one cache line: seven cells, and a count of the rows that found the bucket full. A
// search continues with the next bucket only if that count is above zero (F14: Bronson and Shi,
// Facebook engineering, 2019). A cell is one word with row, flags and slot, so a reader sees a
// whole entry or none. Entries never move between cells.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "index/compact_table.hpp"

namespace tieralloc {

struct HashTable {
  using Word = std::uint64_t;
  static constexpr int kCellsPerBucket = 7;
  static constexpr int kFlagBits = 2;
  static constexpr int kFlagsAt = 30;  ///< the lowest flag of an Entry

  struct alignas(kCacheLine) Bucket {
    std::atomic<Word> cells[kCellsPerBucket];
    std::atomic<Word> overflows;
  };

  Bucket* memory = nullptr;
  std::size_t buckets = 0;
  int slot_bits = 0;
  std::size_t homes = buckets;            ///< rows belong to the first of the buckets
  const CompactTable* grouped = nullptr;  ///< rows of one bucket there belong to one bucket here

  Bucket& bucket(std::size_t i) const { return memory[i]; }
  std::size_t next(std::size_t i) const { return i + 1 == buckets ? 0 : i + 1; }

  std::size_t bucket_of(RowId row) const {
    return bucket_of_key(grouped == nullptr ? row : grouped->place_of(row).bucket);
  }
  std::size_t bucket_of_key(std::uint64_t key) const {
    std::uint64_t hash = (key ^ (key >> 32)) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
    hash *= 0xBF58476D1CE4E5B9u;
    return static_cast<std::size_t>((static_cast<unsigned __int128>(hash) * homes) >> 64);
  }

  // A word: row + 1, then the flags, then the slot.
  int row_shift() const { return slot_bits + kFlagBits; }
  Word row_part(RowId row) const { return (row + 1) << row_shift(); }
  RowId row_of(Word word) const { return (word >> row_shift()) - 1; }
  bool matches(RowId row, Word word) const { return (word >> row_shift()) == row + 1; }
  Word flag_bits(Entry entry) const { return Word{entry >> kFlagsAt} << slot_bits; }
  Word word_of(RowId row, Entry entry) const {
    return row_part(row) | flag_bits(entry) | slot_of(entry);
  }
  Entry entry_of(Word word) const {
    const Word slot = word & ((Word{1} << slot_bits) - 1);
    const Word flags = word >> slot_bits & ((Word{1} << kFlagBits) - 1);
    return static_cast<Entry>((slot + 1) | flags << kFlagsAt);
  }
};

}  // namespace tieralloc
