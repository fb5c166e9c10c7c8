// selector.hpp: chooses the active policy, the learned one or a simple one, by miniature
// simulations.
//
//   access(row), for rows in the sample:
//     simulate the access in the miniature of every policy, in batches
//     for each policy but the active one:
//       its change detector adds 1 if the active policy misses, less 1 + kMargin if the policy
//       misses if the sum reaches the threshold: the policy becomes active; reset all detectors
// A miniature is a tier of the sampled rows alone, as much smaller as the sample (SHARDS:
// Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015). All miniatures replay
// the same accesses, so that sampling errors are common to all.
//
// Bound: once another policy is better by more than the margin, the active policy misses at most
// kThreshold / sample_rate() more rows than that one, plus those of a batch, before the switch. A
// simple policy has three times the threshold, because it starts without the history of the rows.
//
// Not for concurrent use. All memory is allocated at construction. An access to a sampled row takes
// one access per miniature, another access one hash.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "policy/change_detector.hpp"
#include "policy/row_model.hpp"
#include "policy/row_sample.hpp"
#include "sim/simulator.hpp"

namespace tieralloc {

class Selector {
 public:
  static constexpr std::uint32_t kMaxRows = 2048;  ///< of a miniature
  static constexpr double kMaxRate = 1.0 / 4;      ///< of sampling, if memory suffices
  static constexpr double kMinRate = 1.0 / 16;     ///< of sampling, with the least memory
  static constexpr double kMargin = 0.01;
  static constexpr double kThreshold = 24;  ///< sampled misses
  static constexpr std::uint32_t kBatch = 32;

  /// Policies are numbered in the order of `simple`, then the learned policy, which is active
  /// first. `rows` is the number of all rows, `capacity` that of the tier, `miniature` that of each
  /// miniature, at most `capacity`.
  Selector(RowModel& model, std::uint32_t capacity, std::uint32_t miniature, RowId rows,
           std::vector<std::string> simple, std::uint64_t seed);

  /// Rows of a miniature at a sample rate.
  static std::uint32_t miniature_rows(std::uint32_t capacity, double rate = kMaxRate);

  static std::size_t bytes(std::uint32_t miniature, RowId rows,
                           const std::vector<std::string>& simple);

  /// Appends its memory: the choice and the estimates. The miniatures are not part of it.
  void add_memory(std::vector<std::span<std::byte>>& parts);
  void adopt_memory() { active_ = std::min(active_, simple_.size()); }

  bool is_sampled(RowId row) const { return sample_.contains(row); }

  /// Observes an access to a sampled row, after the model has; true if the active policy changed.
  bool access(RowId row);

  std::size_t active() const { return active_; }
  bool is_learned_active() const { return active_ == simple_.size(); }
  const std::string& name(std::size_t policy) const { return simple_[policy]; }
  std::size_t num_policies() const { return miniatures_.size(); }

  double sample_rate() const { return sample_.rate(); }
  std::uint64_t sampled() const { return sampled_; }
  std::uint64_t switches() const { return switches_; }
  /// Estimated miss ratios by policy, decayed.
  std::vector<double> miss_ratios() const;

 private:
  bool simulate();
  bool compare(std::uint32_t access);
  void switch_to(std::size_t policy);

  std::vector<std::string> simple_;
  RowSample sample_;
  std::deque<Simulator> miniatures_;
  std::vector<ChangeDetector> change_detectors_;  ///< by policy
  std::vector<double> misses_;                    ///< by policy, decayed
  std::vector<RowId> batch_;                      ///< accesses not simulated yet
  std::vector<std::uint32_t> batch_misses_;       ///< by policy: bit i is set if access i misses
  double accesses_ = 0;                           ///< decayed
  std::size_t active_;
  std::uint64_t sampled_ = 0;
  std::uint64_t switches_ = 0;
};

}  // namespace tieralloc
