// hash_index.hpp: a hash of the resident rows with cells of 64 bits, for tiers whose rows a compact
// index cannot hold, and for its overflow.
//
// hash_table.hpp describes the layout. Cost: O(1) expected, 11.9 bytes per slot.
#pragma once

#include <atomic>
#include <bit>
#include <stdexcept>
#include <string>

#include "base/memory.hpp"
#include "index/hash_search.hpp"
#include "index/row_index.hpp"

namespace tieralloc {

class HashIndex final : public RowIndex {
 public:
  // 64 bytes / (7 cells x 0.77) = 11.9 bytes per slot.
  static std::size_t bytes_for(Slot slots) { return bucket_count(slots) * sizeof(Bucket); }

  static bool can_hold(RowId rows, Slot slots) {
    return std::bit_width(rows) + std::bit_width(slots) + HashTable::kFlagBits <= 64;
  }

  HashIndex(RowId rows, Slot slots)
      : memory_(bytes_for(slots), "row index"),
        table_{memory_.as<Bucket>(), bucket_count(slots), static_cast<int>(std::bit_width(slots))} {
    check(rows, slots);
  }

  /// For the overflow of `table`, usually a small share of the rows: they belong to `homes`
  /// buckets, after which others follow for all rows. Those take no memory until they are used.
  HashIndex(RowId rows, Slot slots, std::size_t homes, const CompactTable& table)
      : memory_((homes + slots / HashTable::kCellsPerBucket + 1) * sizeof(Bucket), "row index",
                Filled::sparse),
        table_{memory_.as<Bucket>(), memory_.size() / sizeof(Bucket),
               static_cast<int>(std::bit_width(slots)), homes, &table} {
    check(rows, slots);
  }

  const HashTable& table() const { return table_; }

  /// A row that belongs to bucket `home` of the grouped table; there is one.
  RowId find_row_of_home(std::size_t home) const {
    for (std::size_t bucket = table_.bucket_of_key(home);; bucket = table_.next(bucket)) {
      for (auto& cell : table_.bucket(bucket).cells) {
        const Word word = cell.load(std::memory_order_relaxed);
        if (word == 0) continue;
        const RowId row = table_.row_of(word);
        if (table_.grouped->place_of(row).bucket == home) return row;
      }
    }
  }

  static void check(RowId rows, Slot slots) {
    if (!can_hold(rows, slots)) {
      throw std::invalid_argument("hash index: too many rows and slots; expected both numbers in " +
                                  std::to_string(64 - HashTable::kFlagBits) + " bits, got " +
                                  std::to_string(rows) + " rows and " + std::to_string(slots) +
                                  " slots");
    }
  }

  void prefetch(std::span<const RowId> rows) const override {
    for (const RowId row : rows) prefetch_to_l2(&table_.bucket(table_.bucket_of(row)));
  }

  void find(std::span<const RowId> rows, Entry* entries) const override {
    search_hash(table_, rows, entries);
  }

  Entry find(RowId row) const override { return search_hash(table_, row); }

  void put(RowId row, Entry entry) override {
    if (std::atomic<Word>* cell = locate(row)) {
      cell->store(table_.word_of(row, entry), std::memory_order_seq_cst);
      return;
    }
    for (std::size_t bucket = table_.bucket_of(row);; bucket = table_.next(bucket)) {
      Bucket& place = table_.bucket(bucket);
      for (auto& cell : place.cells) {
        if (cell.load(std::memory_order_relaxed) != 0) continue;
        cell.store(table_.word_of(row, entry), std::memory_order_release);
        return;
      }
      place.overflows.fetch_add(1, std::memory_order_relaxed);
    }
  }

  Entry erase(RowId row) override {
    std::size_t bucket = table_.bucket_of(row);
    for (std::size_t left = table_.buckets; left > 0; --left, bucket = table_.next(bucket)) {
      Bucket& place = table_.bucket(bucket);
      for (auto& cell : place.cells) {
        if (!table_.matches(row, cell.load(std::memory_order_relaxed))) continue;
        const Word word = cell.exchange(0);
        uncount_overflow(table_.bucket_of(row), bucket);
        return table_.entry_of(word);
      }
      if (place.overflows.load(std::memory_order_relaxed) == 0) break;
    }
    return kAbsent;
  }

  bool clear_flag(RowId row, Entry flag) override {
    std::atomic<Word>* cell = locate(row);
    if (cell == nullptr) return false;
    const Word bit = table_.flag_bits(flag);
    Word word = cell->load(std::memory_order_acquire);
    while (table_.matches(row, word) && (word & bit) != 0) {
      if (cell->compare_exchange_weak(word, word & ~bit)) return true;
    }
    return false;
  }

  void set_flag(RowId row, Entry seen, Entry flag) override {
    std::atomic<Word>* cell = locate(row);
    if (cell == nullptr) return;
    Word word = table_.word_of(row, seen);
    cell->compare_exchange_strong(word, word | table_.flag_bits(flag));
  }

  std::size_t bytes() const override { return memory_.size(); }
  const char* kind() const override { return "hash"; }

 private:
  using Word = HashTable::Word;
  using Bucket = HashTable::Bucket;

  static std::size_t bucket_count(Slot slots) { return slots * std::size_t{10} / 54 + 1; }

  std::atomic<Word>* locate(RowId row) const {
    std::size_t bucket = table_.bucket_of(row);
    for (std::size_t left = table_.buckets; left > 0; --left, bucket = table_.next(bucket)) {
      Bucket& place = table_.bucket(bucket);
      for (auto& cell : place.cells) {
        if (table_.matches(row, cell.load(std::memory_order_acquire))) return &cell;
      }
      if (place.overflows.load(std::memory_order_relaxed) == 0) break;
    }
    return nullptr;
  }

  void uncount_overflow(std::size_t from, std::size_t to) {
    for (std::size_t i = from; i != to; i = table_.next(i)) {
      // A search that ends here because of this count sees the writes before the removal.
      table_.bucket(i).overflows.fetch_sub(1, std::memory_order_release);
    }
  }

  Region memory_;
  const HashTable table_;
};

}  // namespace tieralloc
