// candidates.hpp: co-occurrence candidates for prefetching, with their features.
//
//   observe(row):
//     count the access (co_occurrence.hpp); stop unless it is cold
//     for each partner of the row with a share of at least kMinShare of its accesses:
//       add one to the partner's support and its share to the partner's confidence
//       append the partner to the candidates, or replace it if the sample has appended it already
// A cold access is one to a row not accessed for kPrefetchHorizon accesses. Support and confidence
// are sums over the rows of the sample, as in association rules (Agrawal et al., "Mining
// association rules between sets of items in large databases", SIGMOD 1993).
//
// Not for concurrent use. All memory is allocated at construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/types.hpp"
#include "policy/co_occurrence.hpp"
#include "policy/row_history.hpp"

namespace tieralloc {

/// Accesses after the sample within which a prefetched row should be used.
inline constexpr std::uint32_t kPrefetchHorizon = 512;

/// Features of a candidate: those of its row, then those of its co-occurrence.
inline constexpr std::size_t kCandidateFeatures = kRowFeatures + 6;

/// Names of the features after the row's, in their order.
std::vector<std::string> candidate_feature_names();

class Candidates {
 public:
  struct Candidate {
    RowId row;
    float share;       ///< times ÷ accesses of the accessed row
    float times;       ///< co-occurrences with the accessed row
    float accesses;    ///< of the accessed row, decayed as `times` is
    float support;     ///< rows of the sample with this candidate
    float confidence;  ///< sum of their shares
    float position;    ///< of the access in its sample, from 1
  };

  /// Counts the partners of up to `remembered` rows.
  explicit Candidates(std::uint32_t remembered);

  static std::size_t bytes(std::uint32_t remembered);

  void begin_sample();
  /// Loads what `observe` of a row needs into the CPU cache.
  void expect(RowId row) const { pairs_.prefetch(row); }

  /// Observes an access, `since` accesses after the row's last one, and adds its candidates to
  /// `candidates`.
  void observe(RowId row, std::uint32_t since, std::vector<Candidate>& candidates);

  /// Writes kCandidateFeatures features per candidate.
  static void write_features(const RowHistory& history, std::span<const Candidate> candidates,
                             float* features);

 private:
  static constexpr std::size_t kSupportPlaces = 256;
  struct Support {
    RowId row = kNoRow;
    std::uint32_t sample = 0;
    std::uint32_t rows = 0;
    float confidence = 0;
    std::uint32_t place = 0;  ///< of the row in `candidates`
  };

  Support& add_support(RowId row, float share);

  CoOccurrence pairs_;
  std::vector<Support> supports_;  ///< of this sample, by the row's hash; a collision replaces
  std::uint32_t sample_ = 0;
  std::uint32_t position_ = 0;
};

}  // namespace tieralloc
