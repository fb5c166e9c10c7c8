// scored_simulator.hpp: replays accesses while a model says, of a few residents at a time, which
// should leave.
//
// The model sees the features of rows as they stand when a victim is needed, the access that needs
// it included. Beside the tier small shadows of it run (learn/row_sample.hpp): one without any
// prefetching and one with it, and one for each simple policy that the model is compared with.
// Where one of those misses less, it decides until it does so no more (learn/contest.hpp), as in a
// store under a Guard.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eviction/scored.hpp"
#include "learn/prefetcher.hpp"
#include "learn/row_history.hpp"
#include "simulator.hpp"
#include "types.hpp"

namespace tieralloc {

/// Writes a score for each row of features, kRowFeatures of them a row; throws where it cannot.
using ScoreRows = std::function<void(std::span<const float> features, std::span<float> scores)>;

struct Guidance {
  std::uint32_t candidates;         ///< residents drawn at a time
  std::uint32_t victims;            ///< of these, those advised to leave
  std::vector<std::string> rivals;  ///< simple policies that may decide in the model's stead
};

/// How rows are fetched ahead, as long as that does less harm than good (learn/prefetch_gate.hpp).
struct Prefetching {
  Prefetcher prefetcher;  ///< which knows what it knows when the replay begins
  ScoreRows score;        ///< chances of candidates, of kAheadFeatures features each
  std::uint64_t lag;      ///< accesses for which a row is in flight
};

class ScoredSimulator {
 public:
  /// Throws std::invalid_argument for a capacity of 0, or as ScoredPolicy does. Until access number
  /// `guide_from` of the stream, the least recently used row leaves.
  ScoredSimulator(std::uint32_t capacity, RowHistory history, ScoreRows score,
                  const Guidance& guidance, std::uint64_t count_from = 0,
                  std::uint64_t guide_from = 0, std::uint64_t seed = 0,
                  std::optional<Prefetching> prefetching = std::nullopt);
  ~ScoredSimulator();

  /// Replays the next samples of the stream; throws as RowHistory::observe does, nothing replayed.
  /// Throws std::runtime_error for a score that is not finite, and as Prefetcher::choose does, what
  /// was replayed until then staying.
  void run(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);

  const Counts& counts() const { return tier_.simulator.counts(); }

  /// Times that another policy came to decide.
  std::uint64_t switches() const;

 private:
  class Scorer;
  struct Shadows;
  struct Tier {
    Tier(std::unique_ptr<ScoredPolicy> made, std::uint32_t capacity, std::uint64_t rows,
         std::uint64_t count_from = 0, std::uint64_t lag = 0);

    ScoredPolicy& policy;  ///< the simulator's
    Simulator simulator;
  };

  void begin_to_guide();
  void access(std::span<const RowId> row);
  void compare(std::span<const RowId> row);
  void hand_over();
  void fetch_ahead();

  RowHistory history_;
  std::unique_ptr<Scorer> scorer_;
  std::optional<Prefetching> prefetching_;
  Tier tier_;
  std::unique_ptr<Shadows> shadows_;  ///< where there is prefetching, or a rival
  std::uint32_t capacity_;
  std::uint64_t guide_from_;
  std::vector<Candidate> candidates_;  ///< neither resident nor in flight
  std::vector<RowId> rows_;            ///< of the candidates
  std::vector<float> features_;
  std::vector<float> scores_;
  std::vector<RowId> ahead_;
};

}  // namespace tieralloc
