// in_flight_reads.hpp: device reads of rows in flight, so that concurrent misses of a row share
// one.
//
// An update of a row invalidates its read: the bytes read must not be used, and no further miss may
// join. `finish` then returns false.
//
// Concurrency: the owner of the tier serialises all calls. Cost: O(1).
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>

#include "base/types.hpp"
#include "slow_tier/fetch_batch.hpp"

namespace tieralloc {

struct InFlightRead {
  std::shared_ptr<FetchBatch> batch;
  std::uint32_t item;
};

class InFlightReads {
 public:
  /// Null if the row is not being read.
  InFlightRead* find(TierRow row) {
    const auto it = reads_.find(row.value);
    return it == reads_.end() ? nullptr : &it->second;
  }

  void start(TierRow row, InFlightRead read) { reads_.emplace(row.value, std::move(read)); }

  /// Removes the row's read if `batch` makes it. False if the row was updated meanwhile.
  bool finish(TierRow row, const FetchBatch* batch) {
    const auto it = reads_.find(row.value);
    if (it == reads_.end() || it->second.batch.get() != batch) return false;
    reads_.erase(it);
    return true;
  }

  void invalidate(TierRow row) {
    const auto it = reads_.find(row.value);
    if (it == reads_.end()) return;
    it->second.batch->item(it->second.item).stale.store(true, std::memory_order_release);
    reads_.erase(it);
  }

  bool any() const { return !reads_.empty(); }

 private:
  std::unordered_map<RowId, InFlightRead> reads_;
};

}  // namespace tieralloc
