// domino.hpp: temporal prefetching, which replays what followed the last misses before.
//
// Domino (Bakhshalipour, Lotfi-Kamran and Sarbazi-Azad, HPCA 2018): the misses are kept in order,
// those served by prefetching included, and an index says of a miss what followed it, and where.
// The last two misses find where that happened before, and from there on the history is replayed:
// a stream, `degree` rows ahead, which goes on as its rows are asked for. Where the last two are
// not known together, the row that followed the last one most recently is fetched alone; it makes
// two if it is asked for. The index is fully associative here, and updated at every miss (there an
// eighth of them, to save bandwidth). Not for concurrent use.
#pragma once

#include <vector>

#include "../eviction/key_queue.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc {

struct DominoSettings {
  std::uint32_t degree = 4;     ///< rows that a stream is ahead
  std::uint32_t streams = 4;    ///< at a time; the one used longest ago is given up
  std::uint32_t rows = 1;       ///< in the index; the one updated longest ago leaves
  std::uint32_t followers = 3;  ///< of each, the ones seen last
  std::uint32_t history = 1;    ///< misses kept
  bool all_accesses = false;    ///< whether accesses that found a row count as misses do
};

class Domino final : public RowPrefetcher {
 public:
  /// Throws std::invalid_argument for a setting out of range.
  explicit Domino(const DominoSettings& settings);

  void observe(RowId row, Found found, std::vector<RowId>& ahead) override;
  std::size_t bytes() const override;

 private:
  using Entry = KeyQueue<RowId>::Entry;
  struct Follower {
    RowId row = kNoRow;
    std::uint64_t at = 0;  ///< its place in the history
  };
  struct Stream {
    std::uint64_t next = 0;       ///< place in the history to go on from
    std::uint64_t used = 0;       ///< event; 0: never
    std::vector<RowId> expected;  ///< told to be fetched, in order
  };

  bool is_kept(std::uint64_t at) const { return recorded_ - at <= history_.size(); }
  bool advance(RowId row, std::vector<RowId>& ahead);
  void look_up(RowId row, std::vector<RowId>& ahead);
  void go_on(Stream& stream, std::vector<RowId>& ahead);
  void record(RowId row);
  Follower* followers_of(RowId row);

  DominoSettings settings_;
  std::vector<RowId> history_;  ///< in a circle
  std::uint64_t recorded_ = 0;
  RowId last_ = kNoRow;
  KeyQueue<RowId> index_;
  std::vector<Follower> followers_;  ///< by entry of the index, the last one seen first
  std::vector<Stream> streams_;
};

}  // namespace tieralloc
