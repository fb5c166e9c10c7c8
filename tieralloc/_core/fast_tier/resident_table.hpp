// resident_table.hpp: a table that lies in DRAM as a whole, in row order.
//
// The address of a row follows from its number: a lookup needs no index, and no policy knows the
// row. Rows lie at the stride of slots (tier_layout.hpp).
//
// A write sets rows in place. Meanwhile a patch has their new values, which readers use instead:
//
//   writer: publish the patch; wait for the readers that may have missed it; set the rows;
//           withdraw the patch; wait for the readers that may hold it
//   reader: begin a read section; load the patch; take the rows that it has from it
//
// So a reader sees the old or the new value of a row, never a mixture, and never waits.
//
// Concurrency: `locate` runs in any number of threads, inside a read section. One thread at a time
// calls `write`, outside a read section of its own. `fill` needs an ExclusiveGuard.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/buffers.hpp"
#include "base/memory.hpp"
#include "base/types.hpp"
#include "epoch/epoch_manager.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

/// New values of rows, in the caller's memory.
class RowPatch {
 public:
  /// Of a repeated row the last value counts.
  RowPatch(std::span<const TableRow> rows, const std::byte* values);
  struct Place {
    TableRow row;
    std::size_t at;
  };
  /// Of rows whose values are `at` bytes behind `base`; of a repeated row the highest one counts.
  RowPatch(std::vector<Place> places, const std::byte* base);
  /// Of `count` rows from `first` on. Allocates nothing.
  RowPatch(TableRow first, std::size_t count, const std::byte* values)
      : values_(values), first_(first), count_(count) {}

  /// Null if the patch does not have the row. Cost: O(log rows).
  const std::byte* find(TableRow row, std::size_t row_bytes) const;

  template <typename Visit>
  void each(std::size_t row_bytes, Visit visit) const {
    for (std::size_t i = 0; i < count_; ++i)
      visit(TableRow{first_.value + i}, values_ + i * row_bytes);
    for (const Place& place : places_) visit(place.row, value_at(place, row_bytes));
  }

 private:
  void sort();
  const std::byte* value_at(const Place& place, std::size_t row_bytes) const {
    return values_ + place.at * (is_dense_ ? row_bytes : 1);
  }

  const std::byte* const values_;
  const bool is_dense_ = true;
  const TableRow first_{};
  const std::size_t count_ = 0;
  std::vector<Place> places_;  ///< in ascending order, each row once
};

class ResidentTable {
 public:
  /// DRAM of a table, in whole pages.
  static std::uint64_t bytes_for(const TableLayout& layout);

  /// Of zeros.
  ResidentTable(const TableLayout& layout, EpochManager& epochs);

  RowId rows() const { return rows_; }
  std::size_t bytes() const { return memory_.size(); }
  const Region& vectors() const { return memory_; }

  /// Writes the addresses of `rows`, which are valid until the read section ends.
  void locate(std::span<const RowId> rows, const std::byte** addresses) const;

  /// Sets rows to the values of a patch. Cannot fail.
  void write(const RowPatch& patch);

  /// Lets readers use a patch from now on, before `write` of the same patch. Needs an
  /// ExclusiveGuard.
  void publish(const RowPatch& patch) { patch_.store(&patch, std::memory_order_seq_cst); }

  /// Reads all rows from the slow tier. Returns 0, or minus an errno: then the content is
  /// undefined.
  std::int32_t fill(const TableLayout& layout, SlowPool& pool, BufferPool& buffers);

 private:
  std::byte* row(RowId row) const { return memory_.data() + row * stride_; }
  std::int32_t fill_rows(const TableLayout& layout, RowId first, RowId end, SlowPool& pool,
                         BufferPool& buffers);

  const RowId rows_;
  const std::size_t row_bytes_;
  const std::size_t stride_;
  EpochManager& epochs_;
  Region memory_;
  std::atomic<const RowPatch*> patch_{nullptr};
};

}  // namespace tieralloc
