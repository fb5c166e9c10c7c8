// delta.hpp: new values of rows of several tables, applied as one, with a version.
//
//   stage     rows go to the redo log, where no reader finds them
//   commit    the log has all of them, durably; then
//             1. while no call is under way: publish the rows in the log, as an overlay of copies
//                in the fast tiers, and as patches of resident tables
//             2. replace the copies one by one, while lookups prefer the overlay; end the overlay
//
// So a call sees none of the rows or all of them. A crash leaves none or all of them, with the
// version.
//
// A lookup loads the overlay before it searches the index: if the overlay has ended, all copies are
// new. A row that it misses is read from the log, which is published.
//
// Concurrency: one thread, the same for all calls. Lookups go on, but step 1, which takes no time
// per row, waits for calls under way and holds new ones off. Other writers wait as long as the
// delta lives.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "slow_tier/delta.hpp"
#include "store/bag_call.hpp"
#include "store/store.hpp"

namespace tieralloc {

class Delta {
 public:
  /// As Store::begin_delta.
  Delta(Store& store, std::span<const DeltaPart> parts);

  /// Adds rows with new values, which are dense; null: zeros. Throws as Store::update. The delta
  /// can no longer be committed then.
  void stage(const Table& table, Integers indices, const std::byte* values);
  /// The same for rows of floats of a quantised table.
  void stage_floats(const Table& table, Integers indices, const float* values);

  /// Applies the delta. Throws SystemFailure or MemoryShortage; nothing is changed then. Requires
  /// that the parts are those announced. Returns the nanoseconds that callers were held off.
  std::uint64_t commit(std::uint64_t version);

 private:
  std::vector<std::optional<RowPatch>> patches() const;
  std::uint64_t publish(const std::vector<std::optional<RowPatch>>& patches) noexcept;
  void replace_copies(const std::vector<std::optional<RowPatch>>& patches) noexcept;

  Store& store_;
  std::unique_lock<std::mutex> keeping_layout_;  ///< no rows are moving to other tiers
  std::unique_lock<std::mutex> updating_;
  std::unique_ptr<StagedDelta> staged_;
  std::vector<const Table*> tables_;  ///< of each staged part
};

}  // namespace tieralloc
