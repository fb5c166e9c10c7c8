// call_scratch.hpp: the buffers of a call, kept for the next call.
//
// A call allocates nothing once its buffers have grown. `trim` releases the buffers that an
// unusually large call made grow. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/buffers.hpp"
#include "base/types.hpp"
#include "index/row_index.hpp"
#include "slow_tier/fetch_batch.hpp"

namespace tieralloc {

class FastTier;
class TableCounters;
struct BagCall;

/// A row that a call did not find in the fast tier.
struct Miss {
  FastTier* tier = nullptr;
  TierRow row{};
  TableCounters* counters = nullptr;  ///< of the call and the row's table; null: no lookup
  const std::byte* bytes = nullptr;   ///< the row, once it was fetched
  std::shared_ptr<FetchBatch> batch;  ///< the read that fetches it, which owns `bytes`
  std::uint32_t item = 0;
  bool is_counted = false;  ///< as a hit or an on-demand fetch
  /// State of the pin reserved for the row, if it is to be pinned.
  enum class Pin : std::uint8_t { reserved, taken, released };
  Pin pin = Pin::reserved;
};

/// The distinct misses of a call: an open-addressed hash from a row to its place in `rows`.
/// Cost: O(1) per row.
class MissSet {
 public:
  std::vector<Miss> rows;

  std::uint32_t add(FastTier* tier, TierRow row, TableCounters* counters);
  void clear();
  void trim();
  std::size_t bytes() const;

 private:
  void grow();
  std::size_t place_of(const FastTier* tier, TierRow row) const;

  std::vector<std::uint32_t> table_;  ///< place in `rows` + 1; 0: free
};

/// A bag with misses, which is pooled once they were fetched.
struct DeferredBag {
  const BagCall* call;
  std::uint32_t segment;
  std::byte* out;
  std::size_t first;  ///< of its rows in `deferred_rows`
  std::uint32_t rows;
  std::size_t weights;  ///< offset of its weights in `deferred_weights`, bytes
};

struct CallScratch {
  // One batch of bags.
  std::vector<TierRow> rows;
  std::vector<Entry> entries;
  std::vector<const std::byte*> pointers;
  std::vector<Slot> touched;
  std::vector<std::uint32_t> touched_at;  ///< places in `rows`
  std::vector<std::uint32_t> saturated;   ///< places in `touched`
  std::vector<std::uint32_t> lengths;
  std::vector<std::byte> weights;  ///< if they are not the caller's own

  // Until the next fetch.
  MissSet misses;
  std::vector<DeferredBag> deferred;
  std::vector<std::uintptr_t> deferred_rows;  ///< address of a copy, or place in `misses` * 2 + 1
  std::vector<std::byte> deferred_weights;
  RowArena copies;

  void trim();
};

}  // namespace tieralloc
