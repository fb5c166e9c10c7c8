// value_ranking.hpp: evicts the row of the lowest present value.
//
//   insert: the row waits for its evaluation
//   touch:  marks the slot; its value is out of date
//   collect: for each eviction since the last step a hand visits kSweep slots:
//              marked: the row waits for its evaluation; else: moves to the bucket of its value now
//   evaluate, apply: once a batch of rows waits, they get curves and move to their buckets
//   evict:  the oldest slot of the lowest bucket, unless it is marked or its value has risen
// Prefetched rows are in a probationary segment until a lookup uses them; the oldest is evicted
// first where it is larger than its target (probation.hpp).
//
// The policy and the planner of it are one object. A RowModel is shared with other rankings, whose
// planner step observes for all of them.
//
// Concurrency: as EvictionPolicy and Planner say; `touch` is concurrent.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "eviction/marks.hpp"
#include "eviction/planner.hpp"
#include "eviction/policy.hpp"
#include "policy/prefetcher.hpp"
#include "policy/probation.hpp"
#include "policy/ranking.hpp"
#include "policy/row_model.hpp"

namespace tieralloc {

class ValueRanking final : public EvictionPolicy, public Planner {
 public:
  /// `predicts`: whether values are noted as predictions, to calibrate by. `prefetches`: whether
  /// there is a probationary segment.
  ValueRanking(const EvictionConfig& config, RowModel& model, bool predicts,
               bool prefetches = false);

  static std::size_t bytes(const EvictionConfig& config, bool prefetches);
  /// Of these, those that it gives up as it retires.
  static std::size_t retired_bytes(const EvictionConfig& config);

  Planner* planner() override { return this; }
  void insert(Slot slot, RowId row) override;
  void insert_prefetched(Slot slot, RowId row) override;
  bool touch_is_concurrent() const override { return true; }
  void touch(std::span<const Slot> slots) override { marks_.raise(slots); }
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const override {
    return marks_.find_saturated(slots, places);
  }
  Slot evict() override;
  void remove(Slot slot) override;
  void move(Slot from, Slot to) override;

  bool collect(const TierView& tier) override;
  void evaluate(const TierView& tier) override;
  void apply(const TierView& tier) override;

  bool holds(Slot slot) const { return ranking_.holds(slot); }
  /// Takes back the mark of a slot; false where it has none.
  bool take_mark(Slot slot) { return marks_.lower(slot); }
  std::uint32_t held_rows() const { return held_; }
  std::uint64_t evaluations() const { return evaluations_; }
  /// Owner: what came of prefetched rows since the last call.
  PrefetchOutcomes take_outcomes() { return std::exchange(outcomes_, {}); }
  /// Owner: prefetched rows that are not used are evicted first, until others come.
  void empty_probation() { probation_->empty(); }

  /// Owner: calls `visit(slot)` for all slots held, about in ascending order of value, and gives
  /// them up, and the memory that goes with slots but for their marks.
  template <typename Visit>
  void retire(Visit visit);
  /// Owner: takes that memory again.
  void resume();

 private:
  /// Rows that a step evaluates at most.
  static constexpr std::size_t kMaxEvaluated = 10 * RowModel::kBatch;

  static Ranking::Place bucket_of(Value value) {
    return static_cast<Ranking::Place>(std::min<Value>(value >> 9, Ranking::kBuckets - 1));
  }
  void visit(Slot slot, const TierView& tier);
  std::uint32_t prefetched() const {
    return ranking_.size(Ranking::kYoung) + ranking_.size(Ranking::kOld);
  }
  void use_prefetched(Slot slot);
  void use_ranked(Slot slot);
  float displaced_by(Ranking::Place bucket) const;
  Slot prefetched_victim();
  Slot ranked_victim();
  Slot unranked_victim();
  void advance_hand() { hand_ = hand_ + 1 == slots_ ? 0 : hand_ + 1; }

  RowModel& model_;
  const bool predicts_;
  const Slot slots_;
  const std::uint32_t min_batch_;  ///< rows that wait before they are evaluated
  Marks marks_;                    ///< 1: accessed since it was evaluated
  Ranking ranking_;
  std::vector<Curve> curves_;             ///< by slot
  std::unique_ptr<Probation> probation_;  ///< null: nothing is prefetched
  std::vector<Slot> batch_;               ///< evaluated in this step
  std::vector<RowId> rows_;               ///< of the batch
  std::vector<Curve> evaluated_;
  std::uint64_t owed_ = 0;  ///< slots that the hand has yet to visit
  Slot hand_ = 0;
  std::uint32_t held_ = 0;
  std::uint32_t visits_ = 0;
  std::uint64_t evaluations_ = 0;
  PrefetchOutcomes outcomes_;
};

template <typename Visit>
void ValueRanking::retire(Visit visit) {
  while (held_ > 0) {
    Slot slot = ranking_.lowest();
    if (slot == kNoSlot) slot = unranked_victim();
    remove(slot);
    visit(slot);
  }
  ranking_ = Ranking(0);
  curves_ = std::vector<Curve>();
  batch_.clear();
  evaluated_.clear();
  owed_ = 0;
}

}  // namespace tieralloc
