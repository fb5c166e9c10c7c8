#include "prefetcher.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "../simulator.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kAhead = 8;                     // accesses, to ask for memory
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
  taken_.reserve(kMostTaken);
  by_row_.reserve(kMostTaken);
  order_.reserve(kMostTaken);
}

std::size_t Prefetcher::bytes(std::uint32_t capacity) {
  return Successors::bytes(capacity) + (kMostPending + kMostTaken) * sizeof(Candidate) +
         kMostTaken * (sizeof(std::pair<RowId, std::uint32_t>) + sizeof(std::uint32_t)) +
         KeyQueue<RowId>::bytes(kMostFetches) + kMostFetches * sizeof(std::uint64_t);
}

void Prefetcher::observe(RowId row) {
  note(row);
  gather(successors_.observe(row));
}

void Prefetcher::learn(RowId row) {
  note(row);
  successors_.learn(row);
}

/// Sees what comes of what was fetched.
void Prefetcher::note(RowId row) {
  ++now_;
  promised_ -= promised_ * kForget;
  kept_ -= kept_ * kForget;
  stop_waiting();
  if (not_asked_for_.take(row)) kept_ += 1;
}

/// For what was chosen so long ago that an access now would be too late.
void Prefetcher::stop_waiting() {
  while (!not_asked_for_.empty() && chosen_at_[not_asked_for_.oldest()] + kPrefetchHorizon < now_) {
    not_asked_for_.pop();
  }
}

void Prefetcher::gather(std::span<const Candidate> candidates) {
  if (pending_.size() + candidates.size() > kMostPending) drop_all_but(kMostTaken, pending_);
  pending_.insert(pending_.end(), candidates.begin(), candidates.end());
}

void Prefetcher::observe(std::span<const RowId> rows,
                         std::span<const std::uint32_t> sample_lengths) {
  // What is foretold by accesses longer ago has come by now, or will not in time.
  observe(rows, sample_lengths, kPrefetchHorizon);
}

void Prefetcher::learn(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths) {
  observe(rows, sample_lengths, 0);
  pending_.clear();
}

/// With candidates of the samples that end within so many accesses of the end.
void Prefetcher::observe(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths,
                         std::size_t horizon) {
  check_lengths(rows, sample_lengths);
  check_rows(rows, kMostLoggedRows);
  std::size_t at = 0;
  for (const std::uint32_t length : sample_lengths) {
    begin_sample();
    const std::size_t end = at + length;
    const bool is_recent = end + horizon > rows.size();
    for (; at < end; ++at) {
      if (at + 2 * kAhead < rows.size()) successors_.prefetch(rows[at + 2 * kAhead]);
      if (at + kAhead < rows.size()) successors_.prefetch_earlier(rows[at + kAhead]);
      if (is_recent) {
        observe(rows[at]);
      } else {
        learn(rows[at]);
      }
    }
  }
}

std::span<const Candidate> Prefetcher::take_candidates() {
  const std::size_t first = pending_.size() - std::min(pending_.size(), kMostTaken);
  by_row_.clear();
  for (std::size_t i = first; i < pending_.size(); ++i) {
    by_row_.emplace_back(pending_[i].row, static_cast<std::uint32_t>(i));
  }
  std::sort(by_row_.begin(), by_row_.end());
  taken_.clear();
  for (std::size_t i = 0; i < by_row_.size(); ++i) {
    const auto [row, place] = by_row_[i];
    const bool is_last_of_row = i + 1 == by_row_.size() || by_row_[i + 1].first != row;
    if (is_last_of_row && !not_asked_for_.contains(row)) taken_.push_back(pending_[place]);
  }
  pending_.clear();
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
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (i + 2 * kAhead < candidates.size()) history.prefetch(candidates[i + 2 * kAhead].row);
    if (i + kAhead < candidates.size()) history.prefetch_record(candidates[i + kAhead].row);
    const Candidate& candidate = candidates[i];
    history.write_features({&candidate.row, 1}, features);
    std::copy(candidate.features.begin(), candidate.features.end(), features + kRowFeatures);
    features += kAheadFeatures;
  }
}

}  // namespace tieralloc
