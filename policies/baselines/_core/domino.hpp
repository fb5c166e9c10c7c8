// domino.hpp: temporal prefetching: replays the misses that followed the last two before.
//
// Domino (Bakhshalipour, Lotfi-Kamran and Sarbazi-Azad, HPCA 2018). The history keeps misses in
// order, first uses of prefetched rows included; the index maps a miss to its followers and their
// places there. If the index knows the last two misses as a pair, a stream replays the history from
// that place, `degree` rows ahead, and advances as its rows are accessed. If not, the last
// follower of the miss is prefetched alone. Unlike in the paper the index is fully associative, and
// updated at every miss (there at an eighth of them, to save bandwidth). Not for concurrent use.
#pragma once

#include <vector>

#include "eviction/key_queue.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc::baselines {

struct DominoSettings {
  std::uint32_t degree = 4;     ///< max unused rows of a stream
  std::uint32_t streams = 4;    ///< max; the least recently used is replaced
  std::uint32_t rows = 1;       ///< max in the index; the least recently updated is dropped
  std::uint32_t followers = 3;  ///< max per row, the most recent ones
  std::uint32_t history = 1;    ///< max misses
  bool all_accesses = false;    ///< whether hits are recorded as misses are
};

class Domino final : public RowPrefetcher {
 public:
  /// Throws std::invalid_argument for a setting out of range.
  explicit Domino(const DominoSettings& settings);

  void observe(RowId row, Found found, std::vector<RowId>& prefetches) override;
  std::size_t bytes() const override;

 private:
  using Entry = KeyQueue<RowId>::Entry;
  struct Follower {
    RowId row = kNoRow;
    std::uint64_t at = 0;  ///< its place in the history
  };
  struct Stream {
    std::uint64_t next = 0;        ///< place in the history
    std::uint64_t used = 0;        ///< when last, in misses; 0: never
    std::vector<RowId> predicted;  ///< prefetched and not used yet, in order
  };

  bool is_kept(std::uint64_t at) const { return recorded_ - at <= history_.size(); }
  bool advance(RowId row, std::vector<RowId>& prefetches);
  void look_up(RowId row, std::vector<RowId>& prefetches);
  void replay(Stream& stream, std::vector<RowId>& prefetches);
  void record(RowId row);
  Follower* followers_of(RowId row);

  DominoSettings settings_;
  std::vector<RowId> history_;  ///< a ring
  std::uint64_t recorded_ = 0;
  RowId last_ = kNoRow;
  KeyQueue<RowId> index_;
  std::vector<Follower> followers_;  ///< by entry of the index, most recent first
  std::vector<Stream> streams_;
};

}  // namespace tieralloc::baselines
