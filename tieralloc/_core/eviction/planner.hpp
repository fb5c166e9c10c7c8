// planner.hpp: the interface of the work that an eviction policy does between lookups.
//
// A store's background thread and the simulator run a planner in steps:
//   collect; begin_sample and observe for each sample; evaluate; apply
//   evict rows until `reserve` slots are free; take_prefetches
// The simulator runs a step after each access, a store after each drained batch of accesses.
//
// Concurrency: one thread at a time runs a step. Calls marked "owner" are serialised with the calls
// of the EvictionPolicy; the other calls may run beside those.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

/// A read-only view of the policy's tier.
class TierView {
 public:
  virtual ~TierView() = default;

  virtual bool is_resident(RowId row) const = 0;

  /// Owner: the slot of a row; kNoSlot if it is not resident.
  virtual Slot find_slot(RowId row) const = 0;

  /// Owner: the row in a slot that the policy holds.
  virtual RowId row_in(Slot slot) const = 0;
};

/// What a planner has learnt from accesses, without what depends on slots.
struct PlannerMemory {
  std::string key;  ///< planners with the same one can take over each other's parts; "": none
  std::vector<std::span<std::byte>> parts;
};

class Planner {
 public:
  /// Accesses ahead of an observation for which a row is expected.
  static constexpr std::size_t kExpected = 12;

  virtual ~Planner() = default;

  /// Owner: collects rows to evaluate. True if rows are left for another step.
  virtual bool collect(const TierView& tier) {
    (void)tier;
    return false;
  }

  /// Starts the next sample.
  virtual void begin_sample() {}

  virtual void observe(std::span<const RowId> rows) { (void)rows; }

  /// Loads what `observe` of a row needs into the CPU cache.
  virtual void expect(RowId row) const { (void)row; }

  /// Observes the sample of `length` rows from row `at` on, and expects what follows it.
  void observe_sample(std::span<const RowId> rows, std::size_t at, std::size_t length) {
    for (std::size_t i = at; i < at + length; ++i) {
      if (i + kExpected < rows.size()) expect(rows[i + kExpected]);
    }
    begin_sample();
    observe(rows.subspan(at, length));
  }

  virtual void evaluate(const TierView& tier) { (void)tier; }

  /// Owner: puts the decisions into effect.
  virtual void apply(const TierView& tier) { (void)tier; }

  /// Owner: slots to keep free, so that a miss need not evict.
  virtual Slot reserve() const { return 0; }

  /// Appends the rows to prefetch, in order of priority.
  virtual void take_prefetches(std::vector<RowId>& rows) { (void)rows; }

  /// Its parts may be read and replaced between two steps.
  virtual PlannerMemory memory() { return {}; }

  /// Owner: goes on from memory whose parts have been replaced.
  virtual void adopt_memory() {}

  /// Bytes of DRAM of the planner and its policy.
  virtual std::size_t bytes() const { return 0; }
};

}  // namespace tieralloc
