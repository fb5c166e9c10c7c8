// bingo.hpp: Bingo, a spatial prefetcher (Bakhshalipour, Shakerinava, Lotfi-Kamran and
// Sarbazi-Azad, HPCA 2019): prefetches the rows of a region that were used together before.
//
//   first access to a region of consecutive rows: its row is the trigger of a new generation
//     long event: if the history has the trigger, prefetch its footprint
//     short event: else, of the last footprints with the trigger's table and place in its region,
//                  prefetch the rows that a share of them contain
//   further accesses: add the row to the generation's footprint
//   eviction of a row of the footprint: end the generation; record the footprint by its trigger
// The row's table stands for the paper's program counter. One history serves both events, as in the
// paper; here it is fully associative. Not for concurrent use.
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

  void observe(RowId row, AccessResult result, std::vector<RowId>& prefetches) override;
  void evicted(RowId row) override;
  /// Without `table_of`, a copy of the caller's.
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
  std::uint64_t vote(std::uint32_t short_event) const;
  void end(Entry active);

  BingoSettings settings_;
  std::vector<std::uint32_t> table_of_;
  KeyQueue<RowId> active_;                 ///< regions
  std::vector<Generation> generations_;    ///< by entry of active_
  KeyQueue<RowId> history_;                ///< triggers
  std::vector<std::uint64_t> footprints_;  ///< by entry of history_
  SlotLists by_short_event_;               ///< entries of history_, the most recent last
};

}  // namespace tieralloc::baselines
