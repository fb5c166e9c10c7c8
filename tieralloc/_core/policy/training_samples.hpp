// training_samples.hpp: rows at moments of the past, what was known of them, and their next use.
#pragma once

#include <cstdint>
#include <span>

#include "base/types.hpp"
#include "policy/row_history.hpp"

namespace tieralloc {

/// Stands for a row that is not accessed again.
inline constexpr std::uint32_t kNeverAgain = 0xFFFFFFFFu;

struct TrainingSamples {
  std::span<float> features;           ///< kRowFeatures or kCandidateFeatures per sample
  std::span<std::uint32_t> times;      ///< accesses observed by then
  std::span<std::uint32_t> distances;  ///< accesses to the row's next one
};

/// Observes accesses and draws samples on the way, as many as there is room for, spread evenly over
/// the accesses from `first` on. Each is of a row whose access was some accesses ago; the logarithm
/// of how many is uniform. Throws, nothing drawn, as RowHistory, check_lengths and check_rows do,
/// and std::invalid_argument for a `first` that is not below the accesses.
void draw_row_samples(const HistoryConfig& history, std::span<const RowId> rows,
                      std::span<const std::uint32_t> sample_lengths, std::size_t first,
                      std::uint64_t seed, const TrainingSamples& samples);

/// The same of candidates for prefetching (prefetcher.hpp), some of those that each access gives:
/// the longer ago a candidate was accessed the more likely it is drawn, for such rows are not
/// resident. Distances are from the sample's last access; 0: the next access is in the sample.
/// `partners` are the rows whose partners are remembered. Returns how many were drawn.
std::size_t draw_candidate_samples(const HistoryConfig& history, std::uint32_t partners,
                                   std::span<const RowId> rows,
                                   std::span<const std::uint32_t> sample_lengths, std::size_t first,
                                   std::uint64_t seed, const TrainingSamples& samples);

}  // namespace tieralloc
