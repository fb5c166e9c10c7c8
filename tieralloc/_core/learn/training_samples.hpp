// training_samples.hpp: rows at moments of the past, what was known of them, and what came of them.
#pragma once

#include <cstdint>
#include <span>

#include "../types.hpp"
#include "row_history.hpp"

namespace tieralloc {

/// Stands for a row that is not accessed again.
inline constexpr std::uint32_t kNotAgain = 0xFFFFFFFFu;

struct TrainingSamples {
  std::span<float> features;
  std::span<std::uint32_t> times;      ///< the accesses that had been observed
  std::span<std::uint32_t> distances;  ///< accesses until the row's next one, at least 1
};

/// Observes accesses and draws samples on the way, of kRowFeatures each, as many as there is room
/// for, spread evenly over the accesses from `first` on. Each is of a row that was accessed some
/// accesses ago, the logarithm of how many being uniform: of the moments at which a row might be
/// evicted, most are soon after an access to it, and those that decide are not. Throws, nothing
/// observed, as RowHistory::observe does, and std::invalid_argument where `first` is not below the
/// accesses, which are below 2^32 - 1.
void draw_training_samples(RowHistory& history, std::span<const RowId> rows,
                           std::span<const std::uint32_t> sample_lengths, std::size_t first,
                           std::uint64_t seed, const TrainingSamples& samples);

/// As draw_training_samples, of candidates for prefetching, kAheadFeatures each: of those that
/// Successors, looking back over `logged` accesses, gives after each access, some at random, the
/// longer ago they were accessed the more likely, for those are not resident. Returns how many
/// there were. Throws as well as Successors does.
std::size_t draw_candidate_samples(RowHistory& history, std::uint32_t logged,
                                   std::span<const RowId> rows,
                                   std::span<const std::uint32_t> sample_lengths, std::size_t first,
                                   std::uint64_t seed, const TrainingSamples& samples);

}  // namespace tieralloc
