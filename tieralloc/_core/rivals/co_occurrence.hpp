// co_occurrence.hpp: fetches the rows most often accessed near the row accessed now.
//
// Each row remembered has partners: rows that were accessed up to `window` accesses before or after
// it, and how often. Old counts fade: they are halved whenever a row was accessed kMostCounted
// times. Not for concurrent use.
#pragma once

#include <vector>

#include "../eviction/key_queue.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc {

struct CoOccurrenceSettings {
  std::uint32_t rows = 1;  ///< remembered; the one accessed longest ago is forgotten
  std::uint32_t partners =
      16;                    ///< of each; of those counted least, the one seen longest ago leaves
  std::uint32_t window = 8;  ///< accesses apart at most
  bool across_samples = false;  ///< whether rows of different samples can be partners
  double least_share = 0.05;    ///< of a row's accesses a partner came with, to be fetched
  std::uint32_t degree = 8;     ///< fetched an access at most
};

class CoOccurrence final : public RowPrefetcher {
 public:
  static constexpr std::uint32_t kMostCounted = 64;

  /// Throws std::invalid_argument for a setting out of range.
  explicit CoOccurrence(const CoOccurrenceSettings& settings);

  void begin_sample() override;
  void observe(RowId row, Found found, std::vector<RowId>& ahead) override;
  std::size_t bytes() const override;

 private:
  using Owner = KeyQueue<RowId>::Entry;
  struct Partner {
    RowId row;
    std::uint32_t times;
  };

  Owner owner_of(RowId row);
  void count(Owner owner, RowId partner);
  void count_access(Owner owner);
  void choose(Owner owner, std::vector<RowId>& ahead);
  Partner* partners_of(Owner owner) { return &partners_[std::size_t{owner} * settings_.partners]; }

  CoOccurrenceSettings settings_;
  KeyQueue<RowId> owners_;
  std::vector<std::uint32_t> accesses_;  ///< by owner
  std::vector<std::uint32_t> sizes_;     ///< by owner: its partners
  std::vector<Partner> partners_;        ///< by owner, the one seen last first
  std::vector<RowId> recent_;            ///< the last accesses, in a circle
  std::uint64_t seen_ = 0;               ///< accesses that can be partners of the next one
  std::vector<Partner> chosen_;
};

}  // namespace tieralloc
