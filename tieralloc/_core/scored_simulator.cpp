#include "scored_simulator.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>

#include "learn/contest.hpp"
#include "learn/prefetch_gate.hpp"
#include "learn/row_sample.hpp"
#include "learn/shadow_tier.hpp"

namespace tieralloc {
namespace {

std::unique_ptr<ScoredPolicy> make_policy(std::uint32_t capacity, const Guidance& guidance,
                                          std::uint64_t seed) {
  if (capacity < 1) throw std::invalid_argument("capacity is 0, expected at least 1 row");
  const EvictionConfig config{.capacity = capacity, .slots = capacity, .seed = seed};
  return std::make_unique<ScoredPolicy>(config, guidance.candidates, guidance.victims);
}

void check_finite(std::span<const RowId> rows, std::span<const float> scores) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (std::isfinite(scores[i])) continue;
    throw std::runtime_error("the model's score of row " + std::to_string(rows[i]) + " is " +
                             std::to_string(scores[i]));
  }
}

}  // namespace

/// Scores by the features that a history gives.
class ScoredSimulator::Scorer final : public RowScorer {
 public:
  Scorer(const RowHistory& history, ScoreRows&& score)
      : history_(history), score_(std::move(score)) {}

  void score(std::span<const RowId> rows, float* scores) override {
    features_.resize(rows.size() * kRowFeatures);
    history_.write_features(rows, features_.data());
    score_(features_, {scores, rows.size()});
    check_finite(rows, {scores, rows.size()});
  }

 private:
  const RowHistory& history_;
  ScoreRows score_;
  std::vector<float> features_;
};

ScoredSimulator::Tier::Tier(std::unique_ptr<ScoredPolicy> made, std::uint32_t capacity,
                            std::uint64_t rows, std::uint64_t count_from, std::uint64_t lag)
    : policy(*made), simulator(std::move(made), capacity, rows, count_from, lag) {}

/// The tier as it would be without any prefetching, and under its rivals; or a small part of it,
/// and then also as it is: what a sample gets wrong of one of them it gets wrong of all.
struct ScoredSimulator::Shadows {
  static constexpr std::uint32_t kMostRows = 2048;

  Shadows(std::uint32_t capacity, std::uint64_t rows, const Guidance& guidance, std::uint64_t seed,
          const std::optional<Prefetching>& prefetching)
      : sample(capacity, kMostRows, seed),
        learned(make_policy(std::min(capacity, kMostRows), guidance, seed),
                std::min(capacity, kMostRows), rows),
        names(guidance.rivals),
        contest(names.size() + 1, names.size()) {
    for (const std::string& name : names) {
      rivals.emplace_back(name, std::min(capacity, kMostRows), seed);
    }
    if (!prefetching || sample.rate() == 1) return;
    const auto lag = std::llround(static_cast<double>(prefetching->lag) * sample.rate());
    ahead.emplace(make_policy(kMostRows, guidance, seed), kMostRows, rows, 0, lag);
  }

  /// The place of the model among those who contend; those before are the rivals'.
  std::size_t model() const { return names.size(); }
  bool model_decides() const { return contest.in_charge() == model(); }

  RowSample sample;
  Tier learned;
  std::optional<Tier> ahead;  ///< with prefetching; none: the whole tier is in the sample
  PrefetchGate gate;
  std::vector<std::string> names;
  std::deque<ShadowTier> rivals;
  Contest contest;
  std::uint64_t switches = 0;
};

ScoredSimulator::ScoredSimulator(std::uint32_t capacity, RowHistory history, ScoreRows score,
                                 const Guidance& guidance, std::uint64_t count_from,
                                 std::uint64_t guide_from, std::uint64_t seed,
                                 std::optional<Prefetching> prefetching)
    : history_(std::move(history)),
      scorer_(std::make_unique<Scorer>(history_, std::move(score))),
      prefetching_(std::move(prefetching)),
      tier_(make_policy(capacity, guidance, seed), capacity, history_.rows(), count_from,
            prefetching_ ? prefetching_->lag : 0),
      capacity_(capacity),
      guide_from_(guide_from) {
  if (!prefetching_ && guidance.rivals.empty()) return;
  shadows_ = std::make_unique<Shadows>(capacity, history_.rows(), guidance, seed, prefetching_);
}

ScoredSimulator::~ScoredSimulator() = default;

std::uint64_t ScoredSimulator::switches() const {
  return shadows_ == nullptr ? 0 : shadows_->switches;
}

void ScoredSimulator::run(std::span<const RowId> rows,
                          std::span<const std::uint32_t> sample_lengths) {
  history_.check(rows, sample_lengths);
  std::size_t at = 0;
  for (const std::uint32_t length : sample_lengths) {
    history_.begin_sample();
    if (prefetching_) prefetching_->prefetcher.begin_sample();
    for (const std::size_t end = at + length; at < end; ++at) {
      if (history_.accesses() == guide_from_) begin_to_guide();
      history_.observe(rows[at]);
      access(rows.subspan(at, 1));
    }
  }
}

void ScoredSimulator::begin_to_guide() {
  tier_.policy.set_scorer(scorer_.get());
  if (shadows_ == nullptr) return;
  shadows_->learned.policy.set_scorer(scorer_.get());
  if (shadows_->ahead) shadows_->ahead->policy.set_scorer(scorer_.get());
}

void ScoredSimulator::access(std::span<const RowId> row) {
  if (shadows_ != nullptr && shadows_->sample.contains(row[0])) compare(row);
  tier_.simulator.run(row);
  if (!prefetching_) return;
  const bool guided = history_.accesses() > guide_from_;
  if (guided && shadows_->model_decides() && shadows_->gate.is_open()) {
    prefetching_->prefetcher.observe(row[0]);
    fetch_ahead();
  } else {
    prefetching_->prefetcher.learn(row[0]);
  }
}

/// Before an access that the shadows see.
void ScoredSimulator::compare(std::span<const RowId> row) {
  Shadows& shadows = *shadows_;
  Contest& contest = shadows.contest;
  Tier& ahead = shadows.ahead ? *shadows.ahead : tier_;
  const bool missed_without = !shadows.learned.simulator.is_resident(row[0]);
  const bool missed = prefetching_ ? !ahead.simulator.is_resident(row[0]) : missed_without;
  shadows.learned.simulator.run(row);
  if (shadows.ahead) shadows.ahead->simulator.run(row);
  std::vector<double> misses;  // of the rivals, and of the model without prefetching
  for (ShadowTier& rival : shadows.rivals) misses.push_back(rival.access(row[0]) ? 0 : 1);
  misses.push_back(missed_without ? 1 : 0);
  const bool guided = history_.accesses() > guide_from_;
  if (!guided || shadows.learned.simulator.counts().evictions == 0) return;
  if (shadows.model_decides()) {
    if (prefetching_ && !shadows.gate.note(missed, missed_without)) {
      tier_.policy.give_up_prefetched();
      ahead.policy.give_up_prefetched();
    }
  }
  const double now = shadows.model_decides() ? missed : misses[contest.in_charge()];
  for (std::size_t i = 0; i < misses.size(); ++i) {
    if (i != contest.in_charge()) contest.gain(i, now - misses[i] * (1 + kContestMargin));
  }
  const bool is_handed_over = contest.decide([&](std::size_t i) {
    return kContestPatience * (i == shadows.model() ? 1 : kContestChangeover);
  });
  if (is_handed_over) hand_over();
}

void ScoredSimulator::hand_over() {
  ++shadows_->switches;
  std::unique_ptr<EvictionPolicy> stand_in;
  if (!shadows_->model_decides()) {
    stand_in = make_eviction_policy(shadows_->names[shadows_->contest.in_charge()],
                                    {.capacity = capacity_, .slots = capacity_});
  }
  tier_.policy.set_stand_in(std::move(stand_in));
}

void ScoredSimulator::fetch_ahead() {
  candidates_.clear();
  rows_.clear();
  for (const Candidate& candidate : prefetching_->prefetcher.take_candidates()) {
    const RowId row = candidate.row;
    if (tier_.simulator.is_resident(row) || tier_.simulator.in_flight(row)) continue;
    candidates_.push_back(candidate);
    rows_.push_back(row);
  }
  if (rows_.empty()) return;
  features_.resize(rows_.size() * kAheadFeatures);
  scores_.resize(rows_.size());
  write_features(history_, candidates_, features_.data());
  prefetching_->score(features_, scores_);
  ahead_.clear();
  prefetching_->prefetcher.choose(rows_, scores_, ahead_);
  tier_.simulator.prefetch(ahead_);
  if (!shadows_->ahead) return;
  std::erase_if(ahead_, [&](RowId row) { return !shadows_->sample.contains(row); });
  shadows_->ahead->simulator.prefetch(ahead_);
}

}  // namespace tieralloc
