// guard.hpp: whether a learned policy or a simple one should decide who leaves, and whether it pays
// to fetch rows ahead.
//
// Beside a fast tier small shadows of it run, one for each simple policy, one that the learned
// policy advises as it advises the tier, and if need be one more for which it also fetches rows
// ahead: always where that pays, else now and then (scout.hpp). They see the accesses to those rows
// whose hash falls below a threshold, and have as small a share of the tier's capacity (SHARDS:
// Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015): all see the same
// accesses, so that what sampling gets wrong it gets wrong of all alike. Whoever would have missed
// less than who is in charge, by a margin and by some misses more, takes its place. Bounded work an
// access, bounded memory. Not for concurrent use.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "contest.hpp"
#include "row_sample.hpp"
#include "scout.hpp"
#include "shadow_tier.hpp"

namespace tieralloc {

struct GuardOptions {
  std::uint64_t capacity = 0;         ///< rows of the tier that is shadowed
  std::vector<std::string> policies;  ///< the simple ones; the first also stands in for advice
  std::uint32_t shadow_rows = 2048;   ///< most rows of a shadow
  double half_life = 16384;           ///< of what miss ratios remember, in accesses of the sample
  double margin = kContestMargin;
  double patience = kContestPatience;
  double changeover = kContestChangeover;
  bool ahead = false;  ///< whether the learned policy has rows fetched ahead
  /// Accesses of the sample by which it shows whether that pays.
  std::uint64_t scouting = 1 << 14;
  std::uint64_t seed = 0;
};

class Guard {
 public:
  static constexpr std::size_t kLearned = ~std::size_t{0};

  /// Throws std::invalid_argument.
  explicit Guard(const GuardOptions& options);

  /// Replays what was accessed, and thinks again about who should decide.
  void observe(std::span<const RowId> rows);

  /// DRAM that the shadows take.
  std::size_t bytes() const;

  /// The shadow that the learned policy is to advise.
  ShadowTier& learned() { return shadows_[learned_]; }
  /// The one that it is to advise and to fetch rows for, those in the sample; null: none.
  ShadowTier* ahead() { return options_.ahead ? &shadows_.back() : nullptr; }

  /// Whether shadows see accesses to a row.
  bool is_sampled(RowId row) const { return sample_.contains(row); }

  /// Place in the options' policies, or kLearned.
  std::size_t choice() const { return in_charge() < learned_ ? in_charge() : kLearned; }
  /// Whether rows should be fetched ahead; not before that was seen to pay.
  bool fetches_ahead() const { return in_charge() > learned_; }
  /// Whether rows should be fetched for the shadow `ahead`, and that advised; if not, it is not
  /// judged.
  bool looks_ahead() const { return options_.ahead && scout_.is_out(); }
  /// Times that the choice changed.
  std::uint64_t switches() const { return switches_; }
  /// Times that rows began to be fetched ahead, or ceased to.
  std::uint64_t ahead_switches() const { return ahead_switches_; }
  std::uint64_t sampled() const { return sampled_; }
  double sample_rate() const { return sample_.rate(); }
  /// Estimated miss ratios of the policies, of the learned one, and of it where it fetches ahead.
  std::vector<double> miss_ratios() const;

 private:
  /// Its shadow.
  std::size_t in_charge() const { return contest_.in_charge(); }

  void access(RowId row);
  void note_lead(std::size_t shadow);
  void scout();
  void decide();

  GuardOptions options_;
  std::size_t learned_;  ///< its shadow, the first after those of the policies
  RowSample sample_;
  double decay_;
  std::deque<ShadowTier> shadows_;
  std::vector<double> misses_;  ///< decayed
  std::vector<double> missed_;  ///< whether each missed the last access, 0 or 1
  double weight_ = 0;           ///< decayed count of accesses
  Contest contest_;             ///< of the shadows
  Scout scout_;
  std::uint64_t sampled_ = 0;
  std::size_t running_ = 0;  ///< the simple policy that was in charge last
  std::uint64_t switches_ = 0;
  std::uint64_t ahead_switches_ = 0;
};

}  // namespace tieralloc
