// bingo.hpp: spatial prefetching, which fetches the rows of a region that were used together
// before.
//
// Bingo (Bakhshalipour, Shakerinava, Lotfi-Kamran and Sarbazi-Azad, HPCA 2019): from the access
// that begins it until one of its rows leaves the fast tier, a region (of `region` rows that follow
// each other) accumulates a footprint: which of its rows were accessed. Footprints are kept by the
// event that began them. When a region begins anew, the footprint of the longest event that matches
// is fetched: of the same row, or, where there is none, those rows that a share of the footprints
// of the short event voted for: the same place in a region. What the program counter is there, what
// asks, is the row's table here. History is one table for both events, as there, and fully
// associative. Not for concurrent use.
#pragma once

#include <vector>

#include "../eviction/key_queue.hpp"
#include "../eviction/slot_lists.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc {

struct BingoSettings {
  std::uint32_t region = 32;  ///< rows: a power of two, at most 64
  std::uint32_t active = 64;  ///< regions that accumulate; of more, the one used longest ago ends
  std::uint32_t history = 1;  ///< footprints kept; the one recorded longest ago leaves
  std::uint32_t voters = 16;  ///< footprints of a short event that vote, the last ones
  double votes = 0.2;         ///< share of them that a row needs; above 1: short events say nothing
};

class Bingo final : public RowPrefetcher {
 public:
  /// `table_of` says which table each row is of, from 0. Throws std::invalid_argument for a setting
  /// out of range.
  Bingo(const BingoSettings& settings, std::vector<std::uint32_t> table_of);

  void observe(RowId row, Found found, std::vector<RowId>& ahead) override;
  void evicted(RowId row) override;
  /// Without the tables of rows, which whoever asks knows.
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
  std::uint64_t foretold(RowId trigger) const;
  void end(Entry active);

  BingoSettings settings_;
  std::vector<std::uint32_t> table_of_;
  KeyQueue<RowId> active_;                 ///< regions
  std::vector<Generation> generations_;    ///< by entry of that
  KeyQueue<RowId> history_;                ///< triggers: the long events
  std::vector<std::uint64_t> footprints_;  ///< by entry of that
  SlotLists by_short_event_;               ///< entries of that, the last one recorded last
};

}  // namespace tieralloc
