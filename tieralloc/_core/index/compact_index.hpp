// compact_index.hpp: a hash of the resident rows with cells of 32 bits, for tiers of up to some
// 2^25 rows.
//
// compact_table.hpp describes the layout. A row whose bucket is full goes to an overflow table, and
// back once a cell of the bucket is free: into the bucket first, then out of the overflow table, so
// that a reader that searches bucket, overflow table and bucket again misses no row. If two callers
// clear a flag of a row while it moves, both may be the one that changed it.
//
// Cost: O(1) expected, 5.9 bytes per slot; one row in twenty is in the overflow table.
#pragma once

#include <atomic>

#include "base/memory.hpp"
#include "index/compact_search.hpp"
#include "index/hash_index.hpp"

namespace tieralloc {

class CompactIndex final : public RowIndex {
 public:
  static std::size_t bytes_for(Slot slots) {
    return (num_buckets(slots) + num_homes(slots)) * kCacheLine;
  }

  static bool can_hold(RowId rows, Slot slots) {
    return rows < RowId{1} << 32 &&
           CompactTable(nullptr, num_buckets(slots), rows, slots).width <= CompactTable::kMaxWidth;
  }

  /// For rows and slots that it `can_hold`.
  CompactIndex(RowId rows, Slot slots)
      : memory_(num_buckets(slots) * sizeof(Bucket), "row index"),
        table_(memory_.as<Bucket>(), num_buckets(slots), rows, slots),
        overflow_(rows, slots, num_homes(slots), table_) {}

  void prefetch(std::span<const RowId> rows) const override {
    for (const RowId row : rows) prefetch_to_l2(&table_.memory[table_.place_of(row).bucket]);
  }

  void find(std::span<const RowId> rows, Entry* entries) const override {
    search_compact(table_, overflow_.table(), rows, entries);
  }

  Entry find(RowId row) const override { return search_compact(table_, overflow_.table(), row); }

  void put(RowId row, Entry entry) override {
    const Place place = table_.place_of(row);
    Bucket& bucket = table_.memory[place.bucket];
    std::atomic<Cell>* cell = locate(place);
    const bool has_overflowed = bucket.overflows.load(std::memory_order_relaxed) > 0;
    if (cell == nullptr && has_overflowed && overflow_.find(row) != kAbsent) {
      overflow_.put(row, entry);
      return;
    }
    if (cell == nullptr) cell = free_cell(bucket);
    if (cell != nullptr) {
      cell->store(CompactTable::cell_of(place.row_part, entry), std::memory_order_seq_cst);
      return;
    }
    overflow_.put(row, entry);
    bucket.overflows.fetch_add(1, std::memory_order_release);
  }

  Entry erase(RowId row) override {
    const Place place = table_.place_of(row);
    Bucket& bucket = table_.memory[place.bucket];
    if (std::atomic<Cell>* cell = locate(place)) {
      const Entry entry = table_.entry_of(cell->exchange(0));
      if (bucket.overflows.load(std::memory_order_relaxed) > 0) refill(place.bucket, *cell);
      return entry;
    }
    if (bucket.overflows.load(std::memory_order_relaxed) == 0) return kAbsent;
    const Entry entry = overflow_.erase(row);
    if (entry != kAbsent) bucket.overflows.fetch_sub(1, std::memory_order_release);
    return entry;
  }

  bool clear_flag(RowId row, Entry flag) override {
    const Place place = table_.place_of(row);
    std::atomic<Cell>* cell = locate(place);
    if (cell == nullptr) {
      return has_overflowed(place) && overflow_.clear_flag(row, flag);
    }
    Cell seen = cell->load(std::memory_order_acquire);
    while (matches(seen, place) && (seen & flag) != 0) {
      if (cell->compare_exchange_weak(seen, seen & ~flag)) return true;
    }
    return false;
  }

  void set_flag(RowId row, Entry seen, Entry flag) override {
    const Place place = table_.place_of(row);
    if (std::atomic<Cell>* cell = locate(place)) {
      Cell expected = CompactTable::cell_of(place.row_part, seen);
      cell->compare_exchange_strong(expected, expected | flag);
    } else if (has_overflowed(place)) {
      overflow_.set_flag(row, seen, flag);
    }
  }

  /// Rows in the overflow table.
  std::size_t num_overflowed() const {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < table_.buckets; ++i) sum += table_.memory[i].overflows;
    return sum;
  }

  std::size_t bytes() const override { return memory_.size() + overflow_.bytes(); }
  const char* kind() const override { return "hash"; }

 private:
  using Cell = CompactTable::Cell;
  using Bucket = CompactTable::Bucket;
  using Place = CompactTable::Place;

  // Of fifteen cells 12.75 are in use if all slots are. Then 4.7% of the rows overflow; the
  // overflow table has room for 5.9% at its usual load, and for all rows beyond it.
  static std::size_t num_buckets(Slot slots) { return slots * std::size_t{100} / 1275 + 1; }
  static std::size_t num_homes(Slot slots) { return slots * std::size_t{14} / 1000 + 1; }

  bool matches(Cell cell, const Place& place) const {
    return CompactTable::matches(cell, place.row_part, table_.slot_mask);
  }
  bool has_overflowed(const Place& place) const {
    return table_.memory[place.bucket].overflows.load(std::memory_order_acquire) > 0;
  }

  std::atomic<Cell>* locate(const Place& place) const {
    for (auto& cell : table_.memory[place.bucket].cells) {
      if (matches(cell.load(std::memory_order_acquire), place)) return &cell;
    }
    return nullptr;
  }

  static std::atomic<Cell>* free_cell(Bucket& bucket) {
    for (auto& cell : bucket.cells) {
      if (cell.load(std::memory_order_relaxed) == 0) return &cell;
    }
    return nullptr;
  }

  /// Moves a row of bucket `home` from the overflow table into a free cell.
  void refill(std::size_t home, std::atomic<Cell>& cell) {
    const RowId row = overflow_.find_row_of_home(home);
    const Cell row_part = table_.place_of(row).row_part;
    const Entry entry = overflow_.find(row);
    cell.store(CompactTable::cell_of(row_part, entry), std::memory_order_seq_cst);
    const Entry last = overflow_.erase(row);
    table_.memory[home].overflows.fetch_sub(1, std::memory_order_release);
    // A reader may have cleared a flag meanwhile, here or there.
    Cell seen = cell.load(std::memory_order_acquire);
    while (!cell.compare_exchange_weak(seen, seen & (last | ~kEntryFlags))) {
    }
  }

  Region memory_;
  const CompactTable table_;
  HashIndex overflow_;  ///< of rows whose buckets are full
};

}  // namespace tieralloc
