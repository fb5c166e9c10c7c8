// hash_index.hpp: a hash of the resident rows in cache-line buckets. For fast tiers that hold a
// small share of the rows.
//
// A bucket is seven cells and a count of the rows that wanted a cell of it and found none; a search
// goes on to the next bucket only while that count is above zero (as in F14: Bronson and Shi,
// Facebook engineering, 2019). A cell is one word that holds row, flag and slot, so a reader sees
// all of an entry or nothing; cells never move.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <stdexcept>
#include <string>

#include "../memory.hpp"
#include "row_index.hpp"

namespace tieralloc {

class HashIndex final : public RowIndex {
 public:
  // 64 bytes / (7 cells x 0.6) = 15.2 bytes a slot; one search in twenty reads a second bucket.
  static std::size_t bytes_for(Slot slots) { return bucket_count(slots) * sizeof(Bucket); }

  static bool can_hold(RowId rows, Slot slots) {
    return std::bit_width(rows) + std::bit_width(slots) + kFlagBits <= 64;
  }

  HashIndex(RowId rows, Slot slots)
      : slot_bits_(std::bit_width(slots)),
        buckets_(bucket_count(slots)),
        memory_(bytes_for(slots), "row index") {
    if (!can_hold(rows, slots)) {
      throw std::invalid_argument("a hashed index cannot number " + std::to_string(rows) +
                                  " rows and " + std::to_string(slots) + " slots in 64 bits");
    }
  }

  void find(std::span<const RowId> rows, Entry* entries) const override {
    constexpr std::size_t kAhead = 32;
    std::size_t homes[kAhead];
    const std::size_t n = rows.size();
    const auto ask_for = [&](std::size_t i) {
      homes[i % kAhead] = home_of(rows[i]);
      prefetch_to_l2(&bucket(homes[i % kAhead]));
    };
    for (std::size_t i = 0; i < std::min(n, kAhead); ++i) ask_for(i);
    for (std::size_t i = 0; i < n; ++i) {
      entries[i] = find_from(homes[i % kAhead], rows[i]);
      if (i + kAhead < n) ask_for(i + kAhead);
    }
  }

  Entry find(RowId row) const override { return find_from(home_of(row), row); }

  void put(RowId row, Entry entry) override {
    if (std::atomic<Word>* cell = locate(row)) {
      cell->store(word_of(row, entry), std::memory_order_seq_cst);
      return;
    }
    for (std::size_t home = home_of(row);; home = next(home)) {
      Bucket& place = bucket(home);
      for (auto& cell : place.cells) {
        if (cell.load(std::memory_order_relaxed) != 0) continue;
        cell.store(word_of(row, entry), std::memory_order_release);
        return;
      }
      place.passed_on.fetch_add(1, std::memory_order_relaxed);
    }
  }

  void erase(RowId row) override {
    std::size_t home = home_of(row);
    for (std::size_t left = buckets_; left > 0; --left, home = next(home)) {
      Bucket& place = bucket(home);
      for (auto& cell : place.cells) {
        if (!matches(row, cell.load(std::memory_order_relaxed))) continue;
        cell.store(0, std::memory_order_seq_cst);
        forget_path(home_of(row), home);
        return;
      }
      if (place.passed_on.load(std::memory_order_relaxed) == 0) return;
    }
  }

  bool clear_flag(RowId row, Entry flag) override {
    std::atomic<Word>* cell = locate(row);
    if (cell == nullptr) return false;
    const Word bit = flag_bits(flag);
    Word word = cell->load(std::memory_order_acquire);
    while (matches(row, word) && (word & bit) != 0) {
      if (cell->compare_exchange_weak(word, word & ~bit)) return true;
    }
    return false;
  }

  void set_flag(RowId row, Entry seen, Entry flag) override {
    std::atomic<Word>* cell = locate(row);
    if (cell == nullptr) return;
    Word word = word_of(row, seen);
    cell->compare_exchange_strong(word, word | flag_bits(flag));
  }

  std::size_t bytes() const override { return memory_.size(); }
  const char* kind() const override { return "hash"; }

 private:
  using Word = std::uint64_t;
  static constexpr int kCellsPerBucket = 7;
  static constexpr int kFlagBits = 2;
  static constexpr int kFlagsAt = 30;  ///< the lowest flag of an Entry

  struct alignas(kCacheLine) Bucket {
    std::atomic<Word> cells[kCellsPerBucket];
    std::atomic<Word> passed_on;
  };

  static std::size_t bucket_count(Slot slots) { return slots * std::size_t{10} / 42 + 1; }

  Bucket& bucket(std::size_t i) const { return memory_.as<Bucket>()[i]; }
  std::size_t next(std::size_t i) const { return i + 1 == buckets_ ? 0 : i + 1; }

  std::size_t home_of(RowId row) const {
    std::uint64_t hash = (row ^ (row >> 32)) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
    hash *= 0xBF58476D1CE4E5B9u;
    return static_cast<std::size_t>((static_cast<unsigned __int128>(hash) * buckets_) >> 64);
  }

  // A word: row + 1, then the flags, then the slot.
  int row_shift() const { return slot_bits_ + kFlagBits; }
  Word row_part(RowId row) const { return (row + 1) << row_shift(); }
  bool matches(RowId row, Word word) const { return (word >> row_shift()) == row + 1; }
  Word flag_bits(Entry entry) const { return Word{entry >> kFlagsAt} << slot_bits_; }
  Word word_of(RowId row, Entry entry) const {
    return row_part(row) | flag_bits(entry) | slot_of(entry);
  }
  Entry entry_of(Word word) const {
    const Word slot = word & ((Word{1} << slot_bits_) - 1);
    const Word flags = word >> slot_bits_ & ((Word{1} << kFlagBits) - 1);
    return static_cast<Entry>((slot + 1) | flags << kFlagsAt);
  }

  Entry find_from(std::size_t home, RowId row) const {
    const Word wanted = row_part(row);
    const Word rest = (Word{1} << row_shift()) - 1;
    // Every bucket may have passed a row on, once those that filled it are gone.
    for (std::size_t left = buckets_; left > 0; --left, home = next(home)) {
      const Bucket& place = bucket(home);
      // All cells are looked at: which one matches is random, and a branch on it would be guessed
      // wrong for most rows, at more than the price of seven comparisons.
      Word found = 0;
#pragma GCC unroll 7
      for (int i = 0; i < kCellsPerBucket; ++i) {
        const Word word = place.cells[i].load(std::memory_order_acquire);
        // One word or the other, never both: a row that comes back meanwhile may be in two cells.
        found = (word ^ wanted) <= rest ? word : found;
      }
      if (found != 0) return entry_of(found);
      if (place.passed_on.load(std::memory_order_relaxed) == 0) break;
    }
    return kAbsent;
  }

  std::atomic<Word>* locate(RowId row) const {
    std::size_t home = home_of(row);
    for (std::size_t left = buckets_; left > 0; --left, home = next(home)) {
      Bucket& place = bucket(home);
      for (auto& cell : place.cells) {
        if (matches(row, cell.load(std::memory_order_acquire))) return &cell;
      }
      if (place.passed_on.load(std::memory_order_relaxed) == 0) break;
    }
    return nullptr;
  }

  void forget_path(std::size_t from, std::size_t to) {
    for (std::size_t i = from; i != to; i = next(i)) {
      bucket(i).passed_on.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  int slot_bits_;
  std::size_t buckets_;
  Region memory_;
};

}  // namespace tieralloc
