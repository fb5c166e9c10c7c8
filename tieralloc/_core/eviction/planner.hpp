// planner.hpp: what a policy that decides ahead of need does between lookups.
//
// A store's background thread and the simulator drive a planner step by step: collect, begin_sample
// and observe for each sample, evaluate, apply, then evictions down to the reserve, then
// take_prefetches. The simulator makes a step after each access, a store one after each drained
// batch of accesses.
//
// Concurrency: one thread at a time makes a step. Its calls marked "owner" are serialised with the
// calls of the EvictionPolicy; the others may run beside them.
#pragma once

#include <span>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

/// The tier that a policy decides for.
class TierView {
 public:
  virtual ~TierView() = default;

  virtual bool is_resident(RowId row) const = 0;

  /// Owner: the slot of a row, kNoSlot where it is not resident.
  virtual Slot find_slot(RowId row) const = 0;

  /// Owner: the row in a slot that the policy holds.
  virtual RowId row_in(Slot slot) const = 0;
};

class Planner {
 public:
  virtual ~Planner() = default;

  /// Owner: finds the rows to evaluate. True where more are left than one step takes.
  virtual bool collect(const TierView& tier) {
    (void)tier;
    return false;
  }

  /// The accesses that follow are of the next sample.
  virtual void begin_sample() {}

  virtual void observe(std::span<const RowId> rows) { (void)rows; }

  virtual void evaluate(const TierView& tier) { (void)tier; }

  /// Owner: puts the decisions into effect.
  virtual void apply(const TierView& tier) { (void)tier; }

  /// Owner: slots to keep free, so that a miss evicts nothing.
  virtual Slot reserve() const { return 0; }

  /// Appends the rows to prefetch, the most wanted first.
  virtual void take_prefetches(std::vector<RowId>& rows) { (void)rows; }

  /// DRAM that it takes, with its policy.
  virtual std::size_t bytes() const { return 0; }
};

}  // namespace tieralloc
