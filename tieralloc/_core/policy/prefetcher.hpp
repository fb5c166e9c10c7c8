// prefetcher.hpp: chooses rows to prefetch, and throttles itself if that does not pay.
//
//   observe:  gather the candidates of the accessed row (candidates.hpp)
//   evaluate: drop candidates that are resident or were chosen within kPrefetchHorizon accesses
//             chance = chance of a use in the rest of the sample or within kPrefetchHorizon
//             accesses
//                      after it, by the network, in batches
//             choose the candidates with chance * calibration >= prefetch cost
// If the rows of a sample are looked up together, a prefetch cannot help in the rest of the sample:
// only uses after it count.
//
// Feedback (after Srinath et al., "Feedback directed prefetching", HPCA 2007):
//   calibration = uses of prefetched rows ÷ predicted uses, at most 1, both decayed
//   gain = used rows - displaced hits - cost * prefetches - kScoringCost * scored candidates
// A change detector adds up the losses (-gain). At its threshold prefetching is throttled for a
// number of accesses, by exponential back-off. Meanwhile one sample in kProbeEvery is observed, so
// that the counts stay fresh at little cost.
//
// Concurrency: one thread at a time. All memory is allocated at construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/statistics.hpp"
#include "eviction/planner.hpp"
#include "policy/back_off.hpp"
#include "policy/candidates.hpp"
#include "policy/change_detector.hpp"
#include "policy/model.hpp"
#include "policy/row_history.hpp"

// X(type, name, initial value)
#define TIERALLOC_PREFETCH_STATISTICS(X) \
  X(bool, is_throttled)                  \
  X(std::uint64_t, throttles)            \
  X(std::uint64_t, scored)               \
  X(std::uint64_t, chosen)               \
  X(std::uint64_t, used)                 \
  X(double, displaced)                   \
  X(double, calibration, 1)

namespace tieralloc {

/// Outcomes of prefetched rows.
struct PrefetchOutcomes {
  std::uint32_t used = 0;
  double displaced = 0;  ///< estimated hits lost because prefetched rows occupy slots
};

struct PrefetchStats {
  TIERALLOC_PREFETCH_STATISTICS(TIERALLOC_FIELD)
};

inline Statistics statistics_of(const PrefetchStats& source) {
  Statistics statistics;
  TIERALLOC_PREFETCH_STATISTICS(TIERALLOC_ADD_FIELD)
  return statistics;
}

class Prefetcher {
 public:
  /// For a tier of `capacity` rows; counts the partners of up to `remembered` rows. Throws
  /// std::invalid_argument for a network of other sizes.
  Prefetcher(const PolicyModel& model, std::uint32_t capacity, std::uint32_t remembered,
             const LearnedOptions& options);

  static std::size_t bytes(std::uint32_t capacity, std::uint32_t remembered);

  void begin_sample();
  void expect(RowId row) const {
    if (throttled_ == 0) candidates_.expect(row);
  }
  void observe(RowId row, std::uint32_t since);

  /// Scores the candidates gathered since the last call, and chooses rows.
  void evaluate(const RowHistory& history, const TierView& tier);

  /// Moves the chosen rows to `rows`.
  void take(std::vector<RowId>& rows);

  /// Updates calibration and gain; true if prefetching is throttled from now on.
  bool record_outcomes(const PrefetchOutcomes& outcomes);

  bool is_throttled() const { return throttled_ > 0; }

  const PrefetchStats& stats() const { return stats_; }

 private:
  using Candidate = Candidates::Candidate;
  struct Recent {
    std::uint32_t tag = 0;
    std::uint32_t at = 0;
  };

  bool is_recent(RowId row) const;
  float chance(const float* hazards) const;
  void score(const RowHistory& history);
  void choose(RowId row, float chance);

  Candidates candidates_;
  std::unique_ptr<Network> network_;
  std::uint32_t first_interval_;  ///< first interval whose uses count
  std::uint32_t num_intervals_;   ///< intervals up to the horizon
  double cost_;                   ///< of a prefetch, as a share of an on-demand fetch
  std::vector<Candidate> gathered_;
  std::vector<float> features_;
  std::vector<float> hazards_;
  std::vector<Recent> recent_;  ///< recently chosen rows, by hash
  std::vector<RowId> chosen_;
  std::uint32_t now_ = 0;  ///< accesses, in wrapping arithmetic
  std::uint32_t sample_ = 0;
  bool is_observing_ = true;  ///< this sample; false for most samples while throttled
  float predicted_uses_ = 0;  ///< sum of the chances of chosen rows, decayed
  float actual_uses_ = 0;     ///< used prefetched rows, decayed
  double max_loss_;           ///< threshold of the change detector, in misses
  ChangeDetector loss_detector_;
  BackOff back_off_;
  std::uint64_t throttled_ = 0;  ///< accesses left
  double net_gain_ = 0;          ///< since the last throttling, bounded
  double spent_ = 0;             ///< cost since the last outcomes
  PrefetchStats stats_;
};

}  // namespace tieralloc
