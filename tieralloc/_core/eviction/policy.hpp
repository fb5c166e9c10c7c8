// policy.hpp: the interface of eviction policies, which choose the victims of the fast tier.
//
// A policy handles slots and row numbers only, never bytes: the store and the simulator run the
// same objects. Every call is O(1), amortised.
//
// Concurrency: the owner serialises all calls, with one exception. If `touch_is_concurrent()` is
// true, `touch` and `find_saturated` may run in any number of threads beside each other and beside
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

/// Notified by a policy, inside a call to it, that a slot is no longer saturated: access
/// notifications of it are needed again.
class SaturationObserver {
 public:
  virtual ~SaturationObserver() = default;
  virtual void needs_touches(Slot slot) = 0;
};

struct EvictionConfig {
  std::uint32_t capacity;  ///< max resident rows; ratios such as S3-FIFO's small queue refer to it
  std::uint32_t slots;     ///< slots are 0 … slots-1; at least `capacity`, to allow for spare slots
  std::uint64_t seed = 0;  ///< random seed
  SaturationObserver* observer = nullptr;  ///< null: find_saturated is not used
};

class Planner;

/// The value of a held slot to its policy, roughly: enough to make a like policy of another tier.
struct Standing {
  std::uint8_t queue = 0;
  std::uint8_t hits = 0;  ///< touches after the insertion
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  /// The policy's planner (planner.hpp), owned by the policy; null if it has none.
  virtual Planner* planner() { return nullptr; }

  /// Inserts `row`, now resident in `slot`, a slot that the policy does not hold.
  virtual void insert(Slot slot, RowId row) = 0;

  /// As `insert`, for a prefetched row that no lookup has used yet.
  virtual void insert_prefetched(Slot slot, RowId row) { insert(slot, row); }

  /// As `insert`, with the standing that the row had in another policy of the same kind.
  virtual void insert_as(Slot slot, RowId row, Standing standing) {
    insert(slot, row);
    for (unsigned hit = 0; hit < standing.hits; ++hit) touch({&slot, 1});
  }

  /// Access notification: hits on `slots`, in order of access. Slots that the policy does not hold
  /// (pinned, being evicted) are ignored.
  virtual void touch(std::span<const Slot> slots) = 0;

  /// Chooses a victim and removes it; kNoSlot if the policy holds no slot.
  virtual Slot evict() = 0;

  /// The row of the last victim, right after `evict`. Not called if the owner drops all rows.
  virtual void note_evicted(RowId row) { (void)row; }

  /// Removes a held slot for another reason than eviction: it is pinned, or its owner drops it.
  virtual void remove(Slot slot) = 0;

  /// Moves the row in slot `from` to slot `to`, with its place in the eviction order.
  virtual void move(Slot from, Slot to) = 0;

  /// Whether to admit a missed row; false bypasses the fast tier.
  virtual bool admits(RowId row) {
    (void)row;
    return true;
  }

  /// Of a held slot.
  virtual Standing standing(Slot slot) const {
    (void)slot;
    return {};
  }

  virtual bool touch_is_concurrent() const { return false; }

  /// Finds saturated slots: until the observer is notified, the caller may omit access
  /// notifications of them, because those change nothing. Writes their positions in `slots` to
  /// `places`, which has room for all, and returns their number. Concurrent calls are allowed, and
  /// race, as for `touch`.
  virtual std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const {
    (void)slots;
    (void)places;
    return 0;
  }
};

/// Names that make_eviction_policy accepts, in the order of the user documentation.
std::vector<std::string> eviction_policy_names();

/// Throws std::invalid_argument for an unknown name, naming the known ones, and for an invalid
/// configuration.
std::unique_ptr<EvictionPolicy> make_eviction_policy(std::string_view name,
                                                     const EvictionConfig& config);

/// Bytes of memory of the named policy for `config`; throws as make_eviction_policy does.
std::size_t eviction_policy_bytes(std::string_view name, const EvictionConfig& config);

}  // namespace tieralloc
