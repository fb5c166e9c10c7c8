// policy.hpp: what decides which resident row leaves the fast tier.
//
// A policy sees slots and row numbers only, never bytes: the store and the simulator run the same
// objects. Every call is O(1), amortised.
//
// Concurrency: the owner serialises all calls, with one exception. Where `touch_is_concurrent()`
// holds, `touch` and `find_saturated` may run in any number of threads beside each other and beside
// any other call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

/// Told, inside a call to its policy, that a slot is saturated no more.
class SaturationObserver {
 public:
  virtual ~SaturationObserver() = default;
  virtual void needs_touches(Slot slot) = 0;
};

struct EvictionConfig {
  std::uint32_t capacity;  ///< most rows resident at a time, what ratios such as S3-FIFO's small
                           ///< queue are taken of
  std::uint32_t
      slots;  ///< slots are 0 … slots-1; at least `capacity`, the rest are spares in transit
  std::uint64_t seed = 0;                  ///< for policies that draw at random
  SaturationObserver* observer = nullptr;  ///< null: nobody relies on find_saturated
};

class Planner;

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  /// What the policy does between lookups (planner.hpp), alive as long as it; null: nothing.
  virtual Planner* planner() { return nullptr; }

  /// `row` became resident in `slot`, which the policy does not hold.
  virtual void insert(Slot slot, RowId row) = 0;

  /// As `insert`, for a row that was fetched ahead and that nobody has asked for yet.
  virtual void insert_prefetched(Slot slot, RowId row) { insert(slot, row); }

  /// Hits, in the order of access. Slots that the policy does not hold (pinned, leaving) are passed
  /// over.
  virtual void touch(std::span<const Slot> slots) = 0;

  /// Chooses the row to leave and forgets it; kNoSlot where the policy holds none.
  virtual Slot evict() = 0;

  /// Forgets a held slot that leaves for another reason: pinned, dropped by its owner.
  virtual void remove(Slot slot) = 0;

  /// The row in `from` lives in `to` from now on, and keeps its standing.
  virtual void move(Slot from, Slot to) = 0;

  /// Whether a row just missed deserves a slot; false serves it past the fast tier (bypass).
  virtual bool admits(RowId row) {
    (void)row;
    return true;
  }

  virtual bool touch_is_concurrent() const { return false; }

  /// Finds the slots of which touches change nothing, from now until the observer is told: then
  /// nobody needs to tell them. Writes their places in `slots` to `places`, which has room for all,
  /// and returns how many there are. May run wherever a concurrent `touch` may, whose races it
  /// shares: an error of one in an estimate.
  virtual std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const {
    (void)slots;
    (void)places;
    return 0;
  }
};

/// Names that make_eviction_policy knows, in the order they are listed to users.
std::vector<std::string> eviction_policy_names();

/// Throws std::invalid_argument naming the known policies where `name` is none of them.
std::unique_ptr<EvictionPolicy> make_eviction_policy(std::string_view name,
                                                     const EvictionConfig& config);

/// Bytes of memory that the named policy takes for `config`, known before it is made.
std::size_t eviction_policy_bytes(std::string_view name, const EvictionConfig& config);

}  // namespace tieralloc
