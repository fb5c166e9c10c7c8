// training_samples.cpp: replays a trace and draws samples from it.
#include "policy/training_samples.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/split_mix.hpp"
#include "policy/candidates.hpp"
#include "sim/belady.hpp"
#include "sim/simulator.hpp"

namespace tieralloc {
namespace {

/// Draws an age from 0 … below - 1, log-uniformly.
std::uint64_t draw_age(SplitMix64& random, std::uint64_t below) {
  constexpr std::uint32_t kSteps = 1u << 31;
  const double uniform = (random.below(kSteps) + 0.5) / kSteps;
  const double age = std::exp(uniform * std::log(static_cast<double>(below) + 1.0)) - 1;
  return std::min(static_cast<std::uint64_t>(age), below - 1);
}

/// Number of samples due by access `at`.
std::size_t num_due(std::size_t at, std::size_t first, std::size_t accesses, std::size_t room) {
  if (at < first) return 0;
  const auto share = static_cast<unsigned __int128>(room) * (at + 1 - first);
  return static_cast<std::size_t>(share / (accesses - first));
}

/// A stream of accesses with the history and the next use of each row.
class Stream {
 public:
  Stream(const HistoryConfig& config, std::span<const RowId> rows,
         std::span<const std::uint32_t> sample_lengths, std::size_t first)
      : history_(config), rows_(rows), sample_lengths_(sample_lengths) {
    check_lengths(rows, sample_lengths);
    check_rows(rows, history_.rows());
    if (first >= rows.size()) {
      throw std::invalid_argument("first: expected below " + std::to_string(rows.size()) +
                                  ", got " + std::to_string(first));
    }
    next_.resize(rows.size());
    next_uses(rows, history_.rows(), next_);
    last_.resize(history_.rows(), kNeverAgain);
  }

  /// Calls `begin_sample()` for each sample, and `access(at, since, end)` after access number `at`
  /// is observed, in a sample that ends before access `end`.
  template <typename Begin, typename Access>
  void run(Begin begin_sample, Access access) {
    std::size_t at = 0;
    for (const std::uint32_t length : sample_lengths_) {
      history_.begin_sample();
      begin_sample();
      for (const std::size_t end = at + length; at < end; ++at) {
        const std::uint32_t since = history_.observe(rows_[at]);
        last_[rows_[at]] = static_cast<std::uint32_t>(at);
        access(at, since, end);
      }
    }
  }

  const RowHistory& history() const { return history_; }
  /// The row's last access; kNeverAgain before its first one.
  std::uint32_t last(RowId row) const { return last_[row]; }
  /// Accesses from access `at` to the row's next one; 0 if that is not after `at`.
  std::uint32_t distance(std::size_t at, RowId row) const {
    const std::uint32_t use = next_[last_[row]];
    if (use == rows_.size()) return kNeverAgain;
    return use > at ? use - static_cast<std::uint32_t>(at) : 0;
  }

 private:
  RowHistory history_;
  std::span<const RowId> rows_;
  std::span<const std::uint32_t> sample_lengths_;
  std::vector<std::uint32_t> next_;  ///< by access: the next access of its row
  std::vector<std::uint32_t> last_;  ///< by row: its last access
};

/// Whether to draw a candidate last accessed `age` accesses ago.
bool is_drawn(SplitMix64& random, std::uint32_t age) {
  constexpr double kMaxShare = 0.15;  // drawn of candidates of the age 2^kMaxAgeLog2 and above
  constexpr double kMaxAgeLog2 = 13;
  constexpr std::uint32_t kSteps = 1u << 31;
  const double share = kMaxShare * std::min(1.0, std::log2(1.0 + age) / kMaxAgeLog2);
  return random.below(kSteps) < share * kSteps;
}

}  // namespace

void draw_row_samples(const HistoryConfig& config, std::span<const RowId> rows,
                      std::span<const std::uint32_t> sample_lengths, std::size_t first,
                      std::uint64_t seed, const TrainingSamples& samples) {
  Stream stream(config, rows, sample_lengths, first);
  SplitMix64 random(seed);
  std::size_t drawn = 0;
  const auto draw = [&](std::size_t at, std::uint32_t, std::size_t) {
    for (; drawn < num_due(at, first, rows.size(), samples.times.size()); ++drawn) {
      const RowId row = rows[at - draw_age(random, at + 1)];
      stream.history().write_features({&row, 1}, &samples.features[drawn * kRowFeatures]);
      samples.times[drawn] = static_cast<std::uint32_t>(at + 1);
      samples.distances[drawn] = stream.distance(at, row);
    }
  };
  stream.run([] {}, draw);
}

std::size_t draw_candidate_samples(const HistoryConfig& config, std::uint32_t partners,
                                   std::span<const RowId> rows,
                                   std::span<const std::uint32_t> sample_lengths, std::size_t first,
                                   std::uint64_t seed, const TrainingSamples& samples) {
  Stream stream(config, rows, sample_lengths, first);
  Candidates generator(partners);
  std::vector<Candidates::Candidate> candidates;
  SplitMix64 random(seed);
  std::size_t drawn = 0;
  const auto draw = [&](std::size_t at, std::uint32_t since, std::size_t end) {
    candidates.clear();
    generator.observe(rows[at], since, candidates);
    const std::size_t max_drawn = num_due(at, first, rows.size(), samples.times.size());
    for (const Candidates::Candidate& candidate : candidates) {
      const std::uint32_t last = stream.last(candidate.row);
      if (drawn >= max_drawn || last == kNeverAgain) continue;
      if (!is_drawn(random, static_cast<std::uint32_t>(at) - last)) continue;
      Candidates::write_features(stream.history(), {&candidate, 1},
                                 &samples.features[drawn * kCandidateFeatures]);
      samples.times[drawn] = static_cast<std::uint32_t>(at + 1);
      samples.distances[drawn++] = stream.distance(end - 1, candidate.row);
    }
  };
  stream.run([&] { generator.begin_sample(); }, draw);
  return drawn;
}

}  // namespace tieralloc
