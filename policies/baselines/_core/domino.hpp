// domino.hpp: Domino, a temporal prefetcher (Bakhshalipour, Lotfi-Kamran and Sarbazi-Azad, HPCA
// 2018): replays the misses that followed an earlier occurrence of the last two misses.
//
//   miss, or first use of a prefetched row:
//     if a stream has predicted the row: prefetch the stream's next rows
//     else if the index has the row as a follower of the last miss: start a stream there, which
//       prefetches the next `degree` rows of the history
//     else: prefetch the row's last follower
//     append the row to the history, and to the followers of the last miss in the index
// Unlike in the paper the index is fully associative, and every miss updates it (there an eighth of
// them, to save bandwidth). Not for concurrent use.
#pragma once

#include <vector>

#include "eviction/key_queue.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc::baselines {

struct DominoSettings {
  std::uint32_t degree = 4;     ///< max unused rows per stream
  std::uint32_t streams = 4;    ///< max; the least recently used is replaced
  std::uint32_t rows = 1;       ///< max in the index; the least recently updated is dropped
  std::uint32_t followers = 3;  ///< max per row, the most recent ones
  std::uint32_t history = 1;    ///< max misses
  bool all_accesses = false;    ///< whether hits count as misses
};

class Domino final : public RowPrefetcher {
 public:
  /// Throws std::invalid_argument for a setting out of range.
  explicit Domino(const DominoSettings& settings);

  void observe(RowId row, AccessResult result, std::vector<RowId>& prefetches) override;
  std::size_t bytes() const override;

 private:
  using Entry = KeyQueue<RowId>::Entry;
  struct Follower {
    RowId row = kNoRow;
    std::uint64_t at = 0;  ///< place in the history
  };
  struct Stream {
    std::uint64_t next = 0;        ///< place in the history
    std::uint64_t used = 0;        ///< misses recorded at the last use; 0: never used
    std::vector<RowId> predicted;  ///< prefetched, not used yet, in order
  };

  bool is_kept(std::uint64_t at) const { return recorded_ - at <= history_.size(); }
  bool advance(RowId row, std::vector<RowId>& prefetches);
  void look_up(RowId row, std::vector<RowId>& prefetches);
  const Follower* find_pair(RowId row);
  void replay(Stream& stream, std::vector<RowId>& prefetches);
  void record(RowId row);
  Follower* followers_of(RowId row);

  DominoSettings settings_;
  std::vector<RowId> history_;  ///< a ring
  std::uint64_t recorded_ = 0;
  RowId last_ = kNoRow;
  KeyQueue<RowId> index_;
  std::vector<Follower> followers_;  ///< by entry of the index, the most recent first
  std::vector<Stream> streams_;
};

}  // namespace tieralloc::baselines
