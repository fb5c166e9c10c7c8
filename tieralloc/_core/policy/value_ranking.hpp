// value_ranking.hpp: evicts the row with the lowest present value.
//
//   insert:   the row is unevaluated
//   hit:      set the slot's reference bit: its value is out of date
//   collect:  for each eviction since the last step, advance a hand by kVisitsPerEviction slots:
//               bit set: clear it; the row is unevaluated
//               else: move the slot to the bucket of its present value
//             if a batch of rows is unevaluated, collect them for evaluation
//   evaluate: compute the curves of the collected rows
//   apply:    move their slots to the buckets of their values
//   evict:    evict the oldest slot of the lowest bucket; first recheck its reference bit and value
// Prefetched rows are in a probationary segment until a lookup uses them. While the segment is
// larger than its target (probation.hpp), its oldest row is the victim.
//
// Policy and planner are one object. Several rankings can share a RowModel; the planner step of one
// of them then observes accesses for all.
//
// Concurrency: as EvictionPolicy and Planner; `touch` is concurrent.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "eviction/planner.hpp"
#include "eviction/policy.hpp"
#include "eviction/reference_bits.hpp"
#include "policy/prefetcher.hpp"
#include "policy/probation.hpp"
#include "policy/ranking.hpp"
#include "policy/row_model.hpp"

namespace tieralloc {

class ValueRanking final : public ReferenceBitPolicy, public Planner {
 public:
  /// `calibrates`: whether values are recorded as predictions for the model's calibration.
  /// `prefetches`: whether there is a probationary segment.
  ValueRanking(const EvictionConfig& config, RowModel& model, bool calibrates,
               bool prefetches = false);

  static std::size_t bytes(const EvictionConfig& config, bool prefetches);
  /// The part of `bytes` that release_slots frees.
  static std::size_t slot_bytes(const EvictionConfig& config);

  Planner* planner() override { return this; }
  void insert(Slot slot, RowId row) override;
  void insert_prefetched(Slot slot, RowId row) override;
  Slot evict() override;
  void remove(Slot slot) override;
  void move(Slot from, Slot to) override;

  bool collect(const TierView& tier) override;
  void evaluate(const TierView& tier) override;
  void apply(const TierView& tier) override;

  bool holds(Slot slot) const { return ranking_.holds(slot); }
  /// Clears the reference bit of a slot; false if it is clear already.
  bool clear_reference_bit(Slot slot) { return reference_bits_.decrement(slot); }
  std::uint32_t num_rows() const { return num_rows_; }
  std::uint64_t evaluations() const { return evaluations_; }
  /// Owner: outcomes of prefetched rows since the last call.
  PrefetchOutcomes take_outcomes() { return std::exchange(outcomes_, {}); }
  /// Owner: sets the target of the probationary segment to 0, until the next prefetch.
  void drain_probation() { probation_->drain(); }

  /// Owner: makes all ranked rows unevaluated.
  void forget_curves();
  /// Owner: removes all slots, calling `visit(slot)` for each in about ascending order of value,
  /// and frees the memory per slot except reference bits.
  template <typename Visit>
  void release_slots(Visit visit);
  /// Owner: allocates that memory again.
  void allocate_slots();

 private:
  /// Max rows evaluated per step.
  static constexpr std::size_t kMaxEvaluated = 10 * RowModel::kBatch;

  static Ranking::Place bucket_of(Value value) {
    return static_cast<Ranking::Place>(std::min<Value>(value >> 9, Ranking::kBuckets - 1));
  }
  void visit(Slot slot, const TierView& tier);
  std::uint32_t num_prefetched() const {
    return ranking_.size(Ranking::kNewPrefetch) + ranking_.size(Ranking::kOldPrefetch);
  }
  void promote_prefetched(Slot slot);
  void requeue_hit(Slot slot);
  float displaced_by(Ranking::Place bucket) const;
  Slot prefetched_victim();
  Slot ranked_victim();
  Slot unranked_victim();
  void advance_hand() { hand_ = hand_ + 1 == slots_ ? 0 : hand_ + 1; }

  RowModel& model_;
  const bool calibrates_;
  const Slot slots_;
  const std::uint32_t min_batch_;  ///< unevaluated rows that start an evaluation
  Ranking ranking_;
  std::vector<Curve> curves_;             ///< by slot
  std::unique_ptr<Probation> probation_;  ///< null: no prefetching
  std::vector<Slot> batch_slots_;         ///< collected in this step
  std::vector<RowId> batch_rows_;
  std::vector<Curve> batch_curves_;
  std::uint64_t pending_visits_ = 0;  ///< of the hand
  Slot hand_ = 0;
  std::uint32_t num_rows_ = 0;
  std::uint32_t visits_ = 0;
  std::uint64_t evaluations_ = 0;
  PrefetchOutcomes outcomes_;
};

template <typename Visit>
void ValueRanking::release_slots(Visit visit) {
  while (num_rows_ > 0) {
    Slot slot = ranking_.lowest();
    if (slot == kNoSlot) slot = unranked_victim();
    remove(slot);
    visit(slot);
  }
  ranking_ = Ranking(0);
  curves_ = std::vector<Curve>();
  batch_slots_.clear();
  batch_curves_.clear();
  pending_visits_ = 0;
}

}  // namespace tieralloc
