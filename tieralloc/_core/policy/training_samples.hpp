// training_samples.hpp: draws training samples from a trace: features of rows and their next uses.
//
//   draw_row_samples: n samples, evenly spread over the accesses from `first` on
//     each is a row accessed a number of accesses ago; the logarithm of that number is uniform
//   draw_candidate_samples: candidates for prefetching (candidates.hpp) of these accesses
//     each is drawn with a probability that grows with the time since its last access, because rows
//     not accessed for long are not resident
// Both observe all accesses in a RowHistory and write features as of the sample's access.
#pragma once

#include <cstdint>
#include <span>

#include "base/types.hpp"
#include "policy/row_history.hpp"

namespace tieralloc {

/// The distance to the next access of a row that is not accessed again.
inline constexpr std::uint32_t kNeverAgain = 0xFFFFFFFFu;

struct TrainingSamples {
  std::span<float> features;           ///< kRowFeatures or kCandidateFeatures per sample
  std::span<std::uint32_t> times;      ///< accesses observed before the sample
  std::span<std::uint32_t> distances;  ///< accesses until the row's next access
};

/// Draws as many samples of rows as `samples` has room for. Throws as RowHistory, check_lengths and
/// check_rows do, and std::invalid_argument for a `first` that is not below the number of accesses;
/// nothing is drawn then.
void draw_row_samples(const HistoryConfig& history, std::span<const RowId> rows,
                      std::span<const std::uint32_t> sample_lengths, std::size_t first,
                      std::uint64_t seed, const TrainingSamples& samples);

/// Draws samples of candidates, at most as many as `samples` has room for, and returns their
/// number. Distances count from the last access of the sample that has the candidate; 0: the next
/// access is in this sample. `partners` is the number of rows whose partners are counted. Throws as
/// draw_row_samples does.
std::size_t draw_candidate_samples(const HistoryConfig& history, std::uint32_t partners,
                                   std::span<const RowId> rows,
                                   std::span<const std::uint32_t> sample_lengths, std::size_t first,
                                   std::uint64_t seed, const TrainingSamples& samples);

}  // namespace tieralloc
