// bingo.hpp: spatial prefetching: the rows of a region that were used together before.
//
// Bingo (Bakhshalipour, Shakerinava, Lotfi-Kamran and Sarbazi-Azad, HPCA 2019). A region has
// `region` consecutive rows. From its first access until one of its used rows is evicted it
// accumulates a footprint, the set of its accessed rows, kept in the history by its trigger, the
// first row. When a region starts again, the footprint of the longest matching event is prefetched:
// that of the same trigger (long event), else the rows that a share of the last footprints with the
// same place in a region and the same table contain (short event). The row's table stands for the
// paper's program counter. One history serves both events, as in the paper, and is fully
// associative here. Not for concurrent use.
#pragma once

#include <vector>

#include "eviction/key_queue.hpp"
#include "eviction/slot_lists.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc::baselines {

struct BingoSettings {
  std::uint32_t region = 32;  ///< rows: a power of two, at most 64
  std::uint32_t active = 64;  ///< max accumulating regions; the least recently used one ends
  std::uint32_t history = 1;  ///< max footprints; the least recently recorded is dropped
  std::uint32_t voters = 16;  ///< max footprints of a short event that vote, the most recent
  double votes = 0.2;         ///< min share of votes to prefetch a row; above 1: no short events
};

class Bingo final : public RowPrefetcher {
 public:
  /// `table_of` is the table of each row, from 0. Throws std::invalid_argument for a setting out of
  /// range.
  Bingo(const BingoSettings& settings, std::vector<std::uint32_t> table_of);

  void observe(RowId row, Found found, std::vector<RowId>& prefetches) override;
  void evicted(RowId row) override;
  /// Without `table_of`, which the caller has as well.
  std::size_t bytes() const override;

 private:
  using Entry = KeyQueue<RowId>::Entry;
  struct Generation {
    RowId trigger;
    std::uint64_t footprint;
  };

  std::uint32_t short_event(RowId row) const {
    return table_of_[row] * settings_.region + static_cast<std::uint32_t>(row % settings_.region);
  }
  std::uint64_t bit_of(RowId row) const { return std::uint64_t{1} << row % settings_.region; }
  std::uint64_t predict(RowId trigger) const;
  void end(Entry active);

  BingoSettings settings_;
  std::vector<std::uint32_t> table_of_;
  KeyQueue<RowId> active_;                 ///< regions
  std::vector<Generation> generations_;    ///< by entry of that
  KeyQueue<RowId> history_;                ///< triggers: the long events
  std::vector<std::uint64_t> footprints_;  ///< by entry of that
  SlotLists by_short_event_;               ///< entries of that, most recent last
};

}  // namespace tieralloc::baselines
