// call_meter.hpp: counts and times one call of lookups, in total and per table.
//
// Used by the thread that holds the ReadGuard of its CallState.
#pragma once

#include <span>
#include <vector>

#include "store/call_state.hpp"
#include "store/store.hpp"

namespace tieralloc {

class CallMeter {
 public:
  /// Of a store with this number of tables. Throws std::bad_alloc.
  CallMeter(CallState& state, std::size_t tables) : state_(state) { state_.tables.reserve(tables); }

  /// The table of further rows.
  void begin_segment(const Table& table) { table_ = &state_.tables.at(table.position); }
  TableCounters& table() { return *table_; }

  void add_lookups(std::uint64_t rows) {
    lookups_ += rows;
    table_->add_lookups(rows);
  }
  std::uint64_t lookups() const { return lookups_; }

  void set_waited() { waited_ = true; }

  /// Counts rows that were read in place.
  void add_reads_in_place(std::uint64_t rows) {
    state_.counters.on_demand_fetches.add(rows);
    state_.counters.on_demand_device_reads.add(rows);
    table_->add_fetches(rows);
    table_->on_demand_device_reads.add(rows);
    waited_ = true;
  }

  /// Ends the calls, which took `ns` together.
  void end(std::span<const BagCall> calls, std::uint64_t ns) {
    CallCounters& counters = state_.counters;
    counters.calls.add(1);
    // All others were resident at the time of the fetch, or fetched by this call already.
    counters.hits.add(lookups_ - (counters.on_demand_fetches.get() - fetches_before_));
    each_table(calls, [](TableCounters& table) { table.end_call(); });
    if (waited_) {
      counters.call_on_demand.record(ns);
    } else {
      counters.call_hit.record(ns);
      if (lookups_ > 0) counters.row_hit.record(ns / lookups_, lookups_);
    }
  }

  /// Ends calls of which one failed.
  void fail(std::span<const BagCall> calls) {
    each_table(calls, [](TableCounters& table) { table.drop_call(); });
  }

 private:
  template <typename Visit>
  void each_table(std::span<const BagCall> calls, Visit visit) {
    for (const BagCall& call : calls) {
      for (const TableSegment& segment : call.segments) {
        visit(state_.tables.at(segment.table->position));
      }
    }
  }

  CallState& state_;
  TableCounters* table_ = nullptr;  ///< of the current segment
  std::uint64_t lookups_ = 0;
  std::uint64_t fetches_before_ = state_.counters.on_demand_fetches.get();
  bool waited_ = false;
};

/// Counts the indices out of range of calls that were served, with row 0 for these indices.
inline void count_outside(std::span<const BagCall> calls, CallState& state) {
  for (const BagCall& call : calls) {
    const std::vector<std::uint64_t> outside = outside_of_segments(call);
    for (std::size_t i = 0; i < outside.size(); ++i) {
      if (outside[i] == 0) continue;
      state.counters.out_of_range.add(outside[i]);
      state.tables.at(call.segments[i].table->position).out_of_range.add(outside[i]);
    }
  }
}

}  // namespace tieralloc
