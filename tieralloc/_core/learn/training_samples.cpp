#include "training_samples.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "../belady.hpp"
#include "../split_mix.hpp"
#include "prefetcher.hpp"

namespace tieralloc {
namespace {

/// Log-uniform in 0 … below-1.
std::uint64_t draw_age(SplitMix64& random, std::uint64_t below) {
  constexpr std::uint32_t kSteps = 1u << 31;
  const double uniform = (random.below(kSteps) + 0.5) / kSteps;
  const auto age = static_cast<std::uint64_t>(std::exp(uniform * std::log(below + 1.0))) - 1;
  return age < below ? age : below - 1;
}

/// Observes a stream, and knows of each row what comes of it.
class Stream {
 public:
  Stream(RowHistory& history, std::span<const RowId> rows,
         std::span<const std::uint32_t> sample_lengths, std::size_t first)
      : history_(history), rows_(rows), sample_lengths_(sample_lengths), first_(first) {
    history.check(rows, sample_lengths);
    if (first >= rows.size()) {
      throw std::invalid_argument("first is " + std::to_string(first) + ", expected below " +
                                  std::to_string(rows.size()));
    }
    next_.resize(rows.size());
    next_uses(rows, history.rows(), next_);
    last_.resize(history.rows());
  }

  /// Calls `begin_sample()`, and `access(at)` when access number `at` was observed.
  template <typename Begin, typename Access>
  void run(Begin begin_sample, Access access) {
    std::size_t at = 0;
    for (const std::uint32_t length : sample_lengths_) {
      history_.begin_sample();
      begin_sample();
      for (const std::size_t end = at + length; at < end; ++at) {
        history_.observe(rows_[at]);
        last_[rows_[at]] = static_cast<std::uint32_t>(at);
        access(at);
      }
    }
  }

  /// How many of `room` samples should have been drawn.
  std::size_t due(std::size_t at, std::size_t room) const {
    if (at < first_) return 0;
    const auto share = static_cast<unsigned __int128>(room) * (at + 1 - first_);
    return static_cast<std::size_t>(share / (rows_.size() - first_));
  }

  std::uint32_t last_access(RowId row) const { return last_[row]; }

  /// From access `at` to the next one of a row, at least 1.
  std::uint32_t distance(std::size_t at, RowId row) const {
    const std::uint32_t use = next_[last_[row]];
    return use == rows_.size() ? kNotAgain : use - static_cast<std::uint32_t>(at);
  }

 private:
  RowHistory& history_;
  std::span<const RowId> rows_;
  std::span<const std::uint32_t> sample_lengths_;
  std::size_t first_;
  std::vector<std::uint32_t> next_;  ///< use, by access
  std::vector<std::uint32_t> last_;  ///< access, by row
};

/// Whether a candidate that was accessed so long ago becomes a sample: all do that may be resident
/// nowhere, others the more rarely the smaller a tier would still hold them.
bool is_drawn(SplitMix64& random, std::uint32_t age) {
  constexpr double kLongAgo = 13;    // log2 of accesses
  constexpr double kOfThose = 0.35;  // what is drawn, so that there is room for all of it
  constexpr std::uint32_t kSteps = 1u << 31;
  const double share = kOfThose * std::min(1.0, std::log2(1.0 + age) / kLongAgo);
  return random.below(kSteps) < share * kSteps;
}

}  // namespace

void draw_training_samples(RowHistory& history, std::span<const RowId> rows,
                           std::span<const std::uint32_t> sample_lengths, std::size_t first,
                           std::uint64_t seed, const TrainingSamples& samples) {
  Stream stream(history, rows, sample_lengths, first);
  SplitMix64 random(seed);
  std::size_t drawn = 0;
  stream.run([] {},
             [&](std::size_t at) {
               const std::size_t due = stream.due(at, samples.times.size());
               for (; drawn < due; ++drawn) {
                 const RowId row = rows[at - draw_age(random, at + 1)];
                 history.write_features({&row, 1}, &samples.features[drawn * kRowFeatures]);
                 samples.times[drawn] = static_cast<std::uint32_t>(at + 1);
                 samples.distances[drawn] = stream.distance(at, row);
               }
             });
}

std::size_t draw_candidate_samples(RowHistory& history, std::uint32_t logged,
                                   std::span<const RowId> rows,
                                   std::span<const std::uint32_t> sample_lengths, std::size_t first,
                                   std::uint64_t seed, const TrainingSamples& samples) {
  Stream stream(history, rows, sample_lengths, first);
  Successors successors(logged);
  SplitMix64 random(seed);
  std::size_t drawn = 0;
  stream.run([&] { successors.begin_sample(); },
             [&](std::size_t at) {
               const std::size_t due = stream.due(at, samples.times.size());
               for (const Candidate& candidate : successors.observe(rows[at])) {
                 const RowId row = candidate.row;
                 const auto age = static_cast<std::uint32_t>(at) - stream.last_access(row);
                 if (drawn >= due || !is_drawn(random, age)) continue;
                 write_features(history, {&candidate, 1},
                                &samples.features[drawn * kAheadFeatures]);
                 samples.times[drawn] = static_cast<std::uint32_t>(at + 1);
                 samples.distances[drawn] = stream.distance(at, row);
                 ++drawn;
               }
             });
  return drawn;
}

}  // namespace tieralloc
