// co_occurrence.hpp: prefetches the rows most often accessed near the accessed row.
//
// Each remembered row has partners, with counts: rows accessed up to `window` accesses before or
// after it. Counts decay: all of a row are halved after kMaxCount accesses to it. Not for
// concurrent use.
#pragma once

#include <vector>

#include "eviction/key_queue.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc::baselines {

struct CoOccurrenceSettings {
  std::uint32_t rows = 1;       ///< max remembered; the least recently accessed is dropped
  std::uint32_t partners = 16;  ///< max per row; the least counted, then least recent is dropped
  std::uint32_t window = 8;     ///< max accesses between partners
  bool across_samples = false;  ///< whether rows of different samples can be partners
  double least_share = 0.05;    ///< min count of a prefetched partner ÷ accesses of the row
  std::uint32_t degree = 8;     ///< max rows prefetched per access
};

class CoOccurrence final : public RowPrefetcher {
 public:
  static constexpr std::uint32_t kMaxCount = 64;

  /// Throws std::invalid_argument for a setting out of range.
  explicit CoOccurrence(const CoOccurrenceSettings& settings);

  void begin_sample() override;
  void observe(RowId row, Found found, std::vector<RowId>& prefetches) override;
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
  void choose(Owner owner, std::vector<RowId>& prefetches);
  Partner* partners_of(Owner owner) { return &partners_[std::size_t{owner} * settings_.partners]; }

  CoOccurrenceSettings settings_;
  KeyQueue<RowId> owners_;
  std::vector<std::uint32_t> accesses_;  ///< by owner
  std::vector<std::uint32_t> sizes_;     ///< by owner: number of partners
  std::vector<Partner> partners_;        ///< by owner, most recent first
  std::vector<RowId> recent_;            ///< ring of the last accesses
  std::uint64_t seen_ = 0;               ///< accesses that can be partners of the next one
  std::vector<Partner> chosen_;
};

}  // namespace tieralloc::baselines
