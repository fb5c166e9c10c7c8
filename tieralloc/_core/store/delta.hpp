// delta.hpp: new values of rows of several tables, applied as one, with a version.
//
//   stage     rows go to the redo log, where no reader finds them
//   commit    the log has all of them, durably; then, while no call is under way: publish them in
//             the log, replace their copies in the fast tiers, set the rows of resident tables
//
// So a call sees none of the rows or all of them. A crash leaves none or all of them, with the
// version.
//
// Concurrency: one thread, the same for all calls. Lookups go on; they pause for the end of
// `commit`, a few microseconds per 100 rows that have copies. Other writers wait as long as the
// delta lives.
#pragma once

#include <memory>
#include <mutex>
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
  void publish() noexcept;

  Store& store_;
  std::unique_lock<std::mutex> updating_;
  std::unique_ptr<StagedDelta> staged_;
  std::vector<const Table*> tables_;  ///< of each staged part
};

}  // namespace tieralloc
