// selector.hpp: whether the learned policy or a simple one should be active.
//
// Miniature simulations of all of them run beside the tier: on the accesses to those rows whose
// hash falls below a threshold, each with as small a share of the tier's capacity (SHARDS:
// Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015). All see the same
// accesses, so that what sampling gets wrong it gets wrong of all alike. A change detector per
// policy adds up by how many misses it would have missed less than the active one, beyond a margin
// of kMargin; at kThreshold sampled misses it becomes active.
//
// Bound: from the moment another policy is better by more than the margin, the active one misses at
// most kThreshold / sample_rate() more than that (three times as many, for a simple policy, which
// takes over the rows without their history) and a batch before they switch.
//
// Concurrency: not for concurrent use. Memory is bounded, taken at construction; an access to a
// sampled row costs one access of each miniature, another one a hash.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "policy/change_detector.hpp"
#include "policy/row_model.hpp"
#include "policy/row_sample.hpp"
#include "sim/simulator.hpp"

namespace tieralloc {

class Selector {
 public:
  /// Rows of a miniature at most, and the largest share of the rows that are sampled: with as much
  /// memory as it can use, and with the least.
  static constexpr std::uint32_t kMaxRows = 2048;
  static constexpr double kMaxRate = 1.0 / 4;
  static constexpr double kLeastRate = 1.0 / 16;
  static constexpr double kMargin = 0.01;
  static constexpr double kThreshold = 24;
  static constexpr std::uint32_t kBatch = 32;

  /// The policies' places are those of `simple`, then the learned one's, which is active first.
  /// `rows` is the number of all rows, `capacity` that of the tier, `miniature` that of each
  /// miniature, at most `capacity`.
  Selector(RowModel& model, std::uint32_t capacity, std::uint32_t miniature, RowId rows,
           std::vector<std::string> simple, std::uint64_t seed);

  /// Rows of a miniature at such a rate.
  static std::uint32_t miniature_rows(std::uint32_t capacity, double rate = kMaxRate);

  static std::size_t bytes(std::uint32_t miniature, RowId rows,
                           const std::vector<std::string>& simple);

  bool samples(RowId row) const { return sample_.contains(row); }

  /// An access to a sampled row, which the model has observed; true where the active policy
  /// changed. Accesses are simulated kBatch at a time, one miniature after another.
  bool access(RowId row);

  std::size_t active() const { return active_; }
  bool learned_is_active() const { return active_ == simple_.size(); }
  const std::string& name(std::size_t policy) const { return simple_[policy]; }
  std::size_t policies() const { return miniatures_.size(); }

  double sample_rate() const { return sample_.rate(); }
  std::uint64_t sampled() const { return sampled_; }
  std::uint64_t switches() const { return switches_; }
  /// Estimated miss ratios, decayed, by place.
  std::vector<double> miss_ratios() const;

 private:
  bool simulate();
  bool decide(std::uint32_t access);
  void switch_to(std::size_t policy);

  std::vector<std::string> simple_;
  RowSample sample_;
  std::deque<Simulator> miniatures_;
  std::vector<ChangeDetector> leads_;  ///< over the active policy
  std::vector<double> misses_;         ///< decayed
  std::vector<RowId> accesses_;        ///< that are not simulated yet
  std::vector<std::uint32_t> missed_;  ///< by policy: bit a for the a-th of them
  double weight_ = 0;                  ///< decayed accesses
  std::size_t active_;
  std::uint64_t sampled_ = 0;
  std::uint64_t switches_ = 0;
};

}  // namespace tieralloc
