// direct_index.hpp: an array of one entry per row, for fast tiers with a large share of the rows.
//
// Cost: O(1), 4 bytes per row.
#pragma once

#include <atomic>

#include "base/memory.hpp"
#include "index/row_index.hpp"

namespace tieralloc {

class DirectIndex final : public RowIndex {
 public:
  static std::size_t bytes_for(RowId rows) { return rows * sizeof(Entry); }

  explicit DirectIndex(RowId rows) : memory_(bytes_for(rows), "row index") {}

  void prefetch(std::span<const RowId> rows) const override {
    for (const RowId row : rows) prefetch_to_l2(&cells()[row]);
  }

  void find(std::span<const RowId> rows, Entry* entries) const override {
    const auto* table = cells();
    for (const RowId row : rows) *entries++ = table[row].load(std::memory_order_acquire);
  }

  Entry find(RowId row) const override { return cells()[row].load(std::memory_order_acquire); }

  void put(RowId row, Entry entry) override {
    cells()[row].store(entry, std::memory_order_release);
  }

  Entry erase(RowId row) override { return cells()[row].exchange(kAbsent); }

  bool clear_flag(RowId row, Entry flag) override {
    Entry entry = find(row);
    while ((entry & flag) != 0) {
      if (cells()[row].compare_exchange_weak(entry, entry & ~flag)) return true;
    }
    return false;
  }

  void set_flag(RowId row, Entry seen, Entry flag) override {
    cells()[row].compare_exchange_strong(seen, seen | flag);
  }

  std::size_t bytes() const override { return memory_.size(); }
  const char* kind() const override { return "direct"; }

 private:
  std::atomic<Entry>* cells() const { return memory_.as<std::atomic<Entry>>(); }

  Region memory_;
};

}  // namespace tieralloc
