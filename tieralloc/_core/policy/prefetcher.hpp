// prefetcher.hpp: which rows to fetch before a lookup asks for them.
//
// Candidates are the partners of the row accessed last (co_occurrence.hpp) that are not resident
// and were not prefetched recently. A network gives each, in batches, the chance to be used in the
// rest of the sample, and the chance to be used within kPrefetchHorizon accesses after it. Those
// whose chance reaches the threshold are prefetched. Where the rows of a sample are looked up
// together, none can be prefetched for the rest of it: only uses after it count.
//
// Throttle, directed by feedback: chances count for as much less as prefetched rows were used less
// than predicted. What prefetching saves is added up,
//     prefetched rows used - hits displaced - cost * prefetches - a little for each candidate,
// and where that falls, prefetching pauses for a while, by exponential back-off. In a pause one
// sample in kLearnEvery is learned from, so that it costs next to nothing.
//
// Concurrency: one thread at a time. Memory is bounded, taken at construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/statistics.hpp"
#include "eviction/planner.hpp"
#include "policy/back_off.hpp"
#include "policy/change_detector.hpp"
#include "policy/co_occurrence.hpp"
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

/// Accesses after the sample within which a prefetched row should be used.
inline constexpr std::uint32_t kPrefetchHorizon = 512;

/// Features of a candidate: those of its row, and of how it came to be one.
inline constexpr std::size_t kCandidateFeatures = kRowFeatures + 6;

/// Names of the features beyond the row's, in their order.
std::vector<std::string> candidate_feature_names();

/// Rows that may be worth a prefetch, with what the network is told of them.
class Candidates {
 public:
  struct Candidate {
    RowId row;
    float share;       ///< of the accessed row's accesses it came with
    float times;       ///< it came
    float accesses;    ///< of the accessed row, as far as the times count
    float votes;       ///< rows of the sample whose partner it is
    float confidence;  ///< sum of their shares
    float position;    ///< of the access in its sample
  };

  explicit Candidates(std::uint32_t remembered);

  static std::size_t bytes(std::uint32_t remembered);

  void begin_sample();

  /// An access, so many after the row's last one; adds its candidates to `found`: for a cold
  /// access, the partners that came often enough. One that is there already, for an access of the
  /// same sample, is replaced.
  void observe(RowId row, std::uint32_t since, std::vector<Candidate>& found);

  /// Writes kCandidateFeatures features per candidate.
  static void write_features(const RowHistory& history, std::span<const Candidate> candidates,
                             float* features);

 private:
  static constexpr std::size_t kVotes = 256;
  struct Vote {
    RowId row = kNoRow;
    std::uint32_t sample = 0;
    std::uint32_t votes = 0;
    float confidence = 0;
    std::uint32_t found = 0;  ///< its place among those found
  };

  Vote& vote(RowId row, float share);

  CoOccurrence pairs_;
  std::vector<Vote> votes_;  ///< of this sample, by the row's hash
  std::uint32_t sample_ = 0;
  std::uint32_t position_ = 0;
};

/// What came of prefetched rows.
struct PrefetchOutcomes {
  std::uint32_t used = 0;
  double displaced = 0;  ///< hits, about, that were lost because prefetched rows take slots
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
  /// Of a tier of `capacity` rows; `remembered` are the rows whose partners are known.
  Prefetcher(const PolicyModel& model, std::uint32_t capacity, std::uint32_t remembered,
             const LearnedOptions& options);

  static std::size_t bytes(std::uint32_t capacity, std::uint32_t remembered);

  void begin_sample();
  void observe(RowId row, std::uint32_t since);

  /// Scores the candidates gathered since the last call, and chooses.
  void evaluate(const RowHistory& history, const TierView& tier);

  void take(std::vector<RowId>& rows);

  /// Learns from outcomes; true where prefetching pauses from now on.
  bool note(const PrefetchOutcomes& outcomes);

  bool is_paused() const { return paused_ > 0; }

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
  std::uint32_t first_interval_;  ///< that counts
  std::uint32_t intervals_;       ///< those up to the horizon
  double cost_;
  std::vector<Candidate> gathered_;
  std::vector<float> features_;
  std::vector<float> hazards_;
  std::vector<Recent> recent_;  ///< prefetched, by the row's hash
  std::vector<RowId> chosen_;
  std::uint32_t now_ = 0;
  std::uint32_t sample_ = 0;
  bool learns_ = true;  ///< from this sample
  float promised_ = 0;  ///< sum of the chances of what was prefetched, decayed
  float kept_ = 0;      ///< of these, those used, decayed
  double max_loss_;     ///< misses, before a pause
  ChangeDetector loss_;
  BackOff back_off_;
  std::uint64_t paused_ = 0;  ///< accesses that the pause lasts
  double gained_ = 0;         ///< since the last pause
  double spent_ = 0;          ///< since the last outcomes
  PrefetchStats stats_;
};

}  // namespace tieralloc
