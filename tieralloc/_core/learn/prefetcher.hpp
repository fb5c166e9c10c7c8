// prefetcher.hpp: which rows to fetch ahead, with a model to say how likely each is.
//
// Accesses are observed; the rows that they vote for (successors.hpp) are candidates until they are
// taken to be scored. A score is the chance that a row is asked for within kPrefetchHorizon
// accesses. Those that reach a least one are fetched, and it is seen what comes of them: where
// fewer are asked for than the scores promised, scores count for that much less, so that a model
// that does not fit goes quiet. Bounded memory; work in proportion to accesses and candidates. Not
// for concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "../eviction/key_queue.hpp"
#include "../types.hpp"
#include "row_history.hpp"
#include "successors.hpp"

namespace tieralloc {

/// Accesses within which a row that was fetched ahead should be asked for.
inline constexpr std::uint32_t kPrefetchHorizon = 512;

/// Features of a candidate: those of its row, and those of candidates.
inline constexpr std::size_t kAheadFeatures = kRowFeatures + kCandidateFeatures;

class Prefetcher {
 public:
  /// Remembers `capacity` accesses; fetches what has a chance of `least`. Throws as SampleLog does,
  /// and std::invalid_argument for a chance that is not in (0, 1].
  Prefetcher(std::uint32_t capacity, float least);

  static std::size_t bytes(std::uint32_t capacity);

  void begin_sample() { successors_.begin_sample(); }

  /// An access to a row below kMostLoggedRows.
  void observe(RowId row);

  /// The same where nobody asks for candidates, which costs less.
  void learn(RowId row);

  /// Samples of these lengths, of which the last ones have candidates: those that end within
  /// kPrefetchHorizon accesses of the end. Throws std::invalid_argument, nothing observed, where
  /// they do not add up to the rows, or for a row that is too large.
  void observe(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);

  /// The same without candidates, and those there were are dropped.
  void learn(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);

  /// The candidates since the last call, each with the last that was said of it, but for those
  /// that were fetched of late; valid until the next call. Of too many, the last.
  std::span<const Candidate> take_candidates();

  /// Keeps those of the candidates just taken that are wanted, one flag each; as valid as they.
  std::span<const Candidate> keep_wanted(std::span<const bool> wanted);

  /// Adds those candidates to `rows` whose scores are high enough, the best first. Throws
  /// std::invalid_argument, nothing chosen, for a score that is not in [0, 1].
  void choose(std::span<const RowId> candidates, std::span<const float> scores,
              std::vector<RowId>& rows);

  /// What scores are multiplied by, at most 1.
  float trust() const;

 private:
  void observe(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths,
               std::size_t horizon);
  void stop_waiting();
  void note(RowId row);
  void gather(std::span<const Candidate> candidates);

  Successors successors_;
  float least_;
  std::vector<Candidate> pending_;
  std::vector<Candidate> taken_;
  std::vector<std::pair<RowId, std::uint32_t>> by_row_;  ///< pending ones, and their places
  std::vector<std::uint32_t> order_;
  KeyQueue<RowId> not_asked_for_;         ///< of what was chosen within the horizon
  std::vector<std::uint64_t> chosen_at_;  ///< access, by entry of that
  std::uint64_t now_ = 0;                 ///< accesses so far
  float promised_ = 0;                    ///< sum of the scores of what was fetched, decayed
  float kept_ = 0;                        ///< of these, those that were asked for, decayed
};

/// Writes kAheadFeatures features of each candidate.
void write_features(const RowHistory& history, std::span<const Candidate> candidates,
                    float* features);

}  // namespace tieralloc
