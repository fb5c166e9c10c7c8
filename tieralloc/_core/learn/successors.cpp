#include "successors.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>

#include "../split_mix.hpp"
#include "fast_log.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kVotes = 2048;        // a power of two: what a sample votes for is no more
constexpr std::size_t kProbes = 8;          // places where a vote may lie
constexpr std::uint32_t kLookedAt = 8;      // rows, to forget one
constexpr std::uint32_t kMostMerit = 16;    // accesses that make a row memorable, at most
constexpr std::uint32_t kMostCounted = 64;  // accesses after which counts are halved
constexpr float kNew = 256;                 // accesses: of two pairs as new, the rarer one goes
constexpr float kLeast = 1e-3f;             // added before logarithms

float log_of_share(float share) {
  return fast_log2(kLeast + share);
}

float log_of_time(std::uint32_t accesses) {
  return fast_log2(1 + static_cast<float>(accesses));
}

}  // namespace

std::vector<std::string> candidate_feature_names() {
  return {
      // How often it came after the last row accessed and before it; both as shares of the accesses
      // to that row, log2(0.001 + share): the former alone, and together.
      "after", "before", "after_share", "share",
      // Logs: accesses since it last did; accesses to the last row.
      "pair_age", "owner_count",
      // Rows of the sample that have voted for it; log2(0.001 + the sum of their shares), and of
      // the greatest; log of the accesses since the first of them.
      "voters", "confidence", "strongest", "vote_age",
      // Logs: accesses of the sample; accesses since the last row was accessed before.
      "position", "owner_gap"};
}

Successors::Successors(std::uint32_t capacity)
    : known_(std::max(capacity, 1u)), lists_(capacity), uses_(capacity), votes_(kVotes) {
  if (capacity == 0) throw std::invalid_argument("capacity is 0, expected at least 1 row");
  candidates_.reserve(kSuccessors);
}

std::size_t Successors::bytes(std::uint32_t capacity) {
  return RowNumbers::bytes(capacity) + capacity * (sizeof(List) + sizeof(Use)) +
         kVotes * sizeof(Vote);
}

void Successors::begin_sample() {
  ++sample_;
  position_ = 0;
}

void Successors::prefetch_list(RowId row) const {
  const Number number = known_.find(row);
  if (number == RowNumbers::kUnknown) return;
  __builtin_prefetch(&uses_[number]);
  const auto* list = reinterpret_cast<const char*>(&lists_[number]);
  for (std::size_t line = 0; line < sizeof(List); line += 64) __builtin_prefetch(list + line);
}

std::span<const Candidate> Successors::observe(RowId row) {
  const Number number = note(row);
  const List& list = lists_[number];
  Use& use = uses_[number];
  const auto accesses = static_cast<float>(use.count);
  const Owner owner{accesses, fast_log2(1 + accesses), log_of_time(position_),
                    log_of_time(now_ - use.last)};
  candidates_.clear();
  for (std::size_t i = 0; i < kSuccessors; ++i) {
    if (!list.is_empty(i) && list.last[i] != now_) candidates_.push_back(candidate(owner, list, i));
  }
  use.last = now_;
  return candidates_;
}

void Successors::learn(RowId row) {
  const Number number = note(row);
  uses_[number].last = now_;
}

/// Counts an access to a row.
Successors::Number Successors::note(RowId row) {
  ++now_;
  const Number number = number_for(row);
  note_pairs(row, number);
  if (++uses_[number].count >= kMostCounted) halve(number);
  return number;
}

Successors::Number Successors::number_for(RowId row) {
  const Number known = known_.find(row);
  if (known != RowNumbers::kUnknown) return known;
  const Number number = known_.size() < known_.capacity() ? known_.add(row) : forget_one_for(row);
  lists_[number] = List{};
  uses_[number] = {.last = now_};
  return number;
}

Successors::Number Successors::forget_one_for(RowId row) {
  Number worst = hand_;
  const auto merit = [](const Use& of) { return std::clamp(of.count, 1u, kMostMerit); };
  for (std::uint32_t i = 0; i < std::min(kLookedAt, known_.capacity()); ++i) {
    const Use &use = uses_[hand_], &other = uses_[worst];
    if (std::uint64_t{now_ - use.last} * merit(other) >
        std::uint64_t{now_ - other.last} * merit(use)) {
      worst = hand_;
    }
    hand_ = hand_ + 1 == known_.capacity() ? 0 : hand_ + 1;
  }
  known_.replace(worst, row);
  return worst;
}

/// Counts the row accessed now as beside those before it in the sample.
void Successors::note_pairs(RowId row, Number number) {
  const std::uint32_t pairs = std::min<std::uint32_t>(position_, kPairWindow);
  for (std::uint32_t back = 1; back <= pairs; ++back) {
    const Recent& other = recent_[(position_ - back) % kPairWindow];
    if (other.row == row || known_.row_of(other.number) != other.row) continue;
    count(lists_[other.number], row, &List::after);
    count(lists_[number], other.row, &List::before);
  }
  recent_[position_++ % kPairWindow] = {row, number};
}

void Successors::count(List& owner, RowId other, Counts List::* times) {
  const std::size_t i = entry_for(owner, other);
  std::uint8_t& counted = (owner.*times)[i];
  if (counted != std::numeric_limits<std::uint8_t>::max()) ++counted;
  owner.last[i] = now_;
}

/// The entry of another row, or else, emptied for it, that which came beside the fewest times for
/// how long ago that was.
std::size_t Successors::entry_for(List& list, RowId other) const {
  const auto low = static_cast<std::uint32_t>(other);
  std::uint32_t found = 0;
  for (const std::uint32_t of : list.row_low) found |= of == low ? 1 : 0;
  for (std::size_t i = 0; found != 0 && i < kSuccessors; ++i) {
    if (list.row(i) == other) return i;
  }
  const std::size_t i = rarest(list);
  list.row_low[i] = low;
  list.row_high[i] = static_cast<std::uint16_t>(other >> 32);
  list.after[i] = list.before[i] = 0;
  return i;
}

std::size_t Successors::rarest(const List& list) const {
  // As integers, which compare in the same order.
  std::array<std::int32_t, kSuccessors> worth;
  for (std::size_t i = 0; i < kSuccessors; ++i) {
    const auto times = static_cast<float>(list.after[i] + list.before[i]);
    const auto age = static_cast<float>(static_cast<std::int32_t>(now_ - list.last[i]));
    worth[i] = std::bit_cast<std::int32_t>(times / (age + kNew));
  }
  std::int32_t least = worth[0];
  for (const std::int32_t of : worth) least = std::min(least, of);
  return static_cast<std::size_t>(std::find(worth.begin(), worth.end(), least) - worth.begin());
}

void Successors::halve(Number number) {
  uses_[number].count /= 2;
  for (std::uint8_t& times : lists_[number].after) times /= 2;
  for (std::uint8_t& times : lists_[number].before) times /= 2;
}

Successors::Vote& Successors::vote_for(RowId row) {
  const std::size_t home = SplitMix64::mix(row) % kVotes;
  Vote* found = &votes_[home];
  for (std::size_t i = 0; i < kProbes; ++i) {
    Vote& vote = votes_[(home + i) % kVotes];
    if (vote.sample == sample_ && vote.row != row) continue;
    found = &vote;
    break;
  }
  if (found->sample != sample_ || found->row != row) {
    *found = Vote{.row = row, .sample = sample_, .first = now_};
  }
  return *found;
}

Candidate Successors::candidate(const Owner& owner, const List& list, std::size_t i) {
  const float after = list.after[i] / owner.accesses;
  const float share = (list.after[i] + list.before[i]) / owner.accesses;
  Vote& vote = vote_for(list.row(i));
  ++vote.voters;
  vote.confidence += share;
  vote.strongest = std::max(vote.strongest, share);
  return {
      list.row(i),
      {static_cast<float>(list.after[i]), static_cast<float>(list.before[i]), log_of_share(after),
       log_of_share(share), log_of_time(now_ - list.last[i]), owner.count,
       static_cast<float>(vote.voters), log_of_share(vote.confidence), log_of_share(vote.strongest),
       log_of_time(now_ - vote.first), owner.position, owner.gap}};
}

}  // namespace tieralloc
