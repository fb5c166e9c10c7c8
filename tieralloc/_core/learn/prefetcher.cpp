#include "prefetcher.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "../simulator.hpp"

namespace tieralloc {
namespace {

constexpr RowId kMostRows = RowId{1} << 48;
constexpr std::size_t kMostTaken = 4096;              // candidates
constexpr std::size_t kMostPending = 2 * kMostTaken;  // so that few have to be moved
constexpr std::uint32_t kMostFetches = 8192;          // whose outcome is waited for
constexpr float kForget = 1.0f / (1 << 16);           // of promises, an access
constexpr float kBenefitOfDoubt = 64;                 // promises taken to have been kept

/// Leaves the last ones.
void drop_all_but(std::size_t most, std::vector<Candidate>& candidates) {
  if (candidates.size() <= most) return;
  candidates.erase(candidates.begin(), candidates.end() - static_cast<std::ptrdiff_t>(most));
}

void check_chances(std::span<const RowId> rows, std::span<const float> chances) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (chances[i] >= 0 && chances[i] <= 1) continue;
    throw std::invalid_argument("the chance of row " + std::to_string(rows[i]) + " is " +
                                std::to_string(chances[i]) + ", expected 0 to 1");
  }
}

}  // namespace

Prefetcher::Prefetcher(std::uint32_t capacity, float least)
    : successors_(capacity), least_(least), not_asked_for_(kMostFetches), chosen_at_(kMostFetches) {
  if (!(least > 0 && least <= 1)) {
    throw std::invalid_argument("least chance is " + std::to_string(least) +
                                ", expected above 0 and at most 1");
  }
  pending_.reserve(kMostPending);
  taken_.reserve(kMostPending);  // the two change places
  order_.reserve(kMostTaken);
}

std::size_t Prefetcher::bytes(std::uint32_t capacity) {
  return Successors::bytes(capacity) + 2 * kMostPending * sizeof(Candidate) +
         kMostTaken * sizeof(std::uint32_t) + KeyQueue<RowId>::bytes(kMostFetches) +
         kMostFetches * sizeof(std::uint64_t);
}

void Prefetcher::observe(RowId row) {
  ++now_;
  promised_ -= promised_ * kForget;
  kept_ -= kept_ * kForget;
  stop_waiting();
  if (not_asked_for_.take(row)) kept_ += 1;
  const auto candidates = successors_.observe(row);
  if (pending_.size() + candidates.size() > kMostPending) drop_all_but(kMostTaken, pending_);
  pending_.insert(pending_.end(), candidates.begin(), candidates.end());
}

/// For what was chosen so long ago that an access now would be too late.
void Prefetcher::stop_waiting() {
  while (!not_asked_for_.empty() && chosen_at_[not_asked_for_.oldest()] + kPrefetchHorizon < now_) {
    not_asked_for_.pop();
  }
}

void Prefetcher::observe(std::span<const RowId> rows,
                         std::span<const std::uint32_t> sample_lengths) {
  check_lengths(rows, sample_lengths);
  check_rows(rows, kMostRows);
  std::size_t at = 0;
  for (const std::uint32_t length : sample_lengths) {
    begin_sample();
    for (const std::size_t end = at + length; at < end; ++at) observe(rows[at]);
  }
}

std::span<const Candidate> Prefetcher::take_candidates() {
  taken_.swap(pending_);
  pending_.clear();
  drop_all_but(kMostTaken, taken_);
  std::stable_sort(taken_.begin(), taken_.end(),
                   [](const Candidate& a, const Candidate& b) { return a.row < b.row; });
  const auto last_of_each =
      std::unique(taken_.rbegin(), taken_.rend(),
                  [](const Candidate& a, const Candidate& b) { return a.row == b.row; });
  taken_.erase(taken_.begin(), last_of_each.base());
  std::erase_if(taken_, [&](const Candidate& it) { return not_asked_for_.contains(it.row); });
  return taken_;
}

std::span<const Candidate> Prefetcher::keep_wanted(std::span<const bool> wanted) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    if (wanted[i]) taken_[kept++] = taken_[i];
  }
  taken_.resize(kept);
  return taken_;
}

void Prefetcher::choose(std::span<const RowId> candidates, std::span<const float> scores,
                        std::vector<RowId>& rows) {
  check_chances(candidates, scores);
  const float least = least_ / trust();
  order_.clear();
  for (std::uint32_t i = 0; i < candidates.size(); ++i) {
    if (scores[i] >= least) order_.push_back(i);
  }
  std::sort(order_.begin(), order_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && candidates[a] < candidates[b]);
  });
  for (const std::uint32_t i : order_) {
    if (not_asked_for_.full()) break;
    rows.push_back(candidates[i]);
    chosen_at_[not_asked_for_.push(candidates[i])] = now_;
    promised_ += scores[i];
  }
}

float Prefetcher::trust() const {
  return std::min(1.0f, (kept_ + kBenefitOfDoubt) / (promised_ + kBenefitOfDoubt));
}

void write_features(const RowHistory& history, std::span<const Candidate> candidates,
                    float* features) {
  for (const Candidate& candidate : candidates) {
    history.write_features({&candidate.row, 1}, features);
    std::copy(candidate.features.begin(), candidate.features.end(), features + kRowFeatures);
    features += kAheadFeatures;
  }
}

}  // namespace tieralloc
