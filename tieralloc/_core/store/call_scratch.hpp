// call_scratch.hpp: the buffers of one call, kept in its cell so that a call allocates nothing once
// they have grown. What a call of unusual size made them grow is given back.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/buffers.hpp"
#include "base/types.hpp"
#include "index/row_index.hpp"
#include "slow_tier/fetch_batch.hpp"

namespace tieralloc {

class FastTier;

/// A row that a call did not find, and how it gets it.
struct Miss {
  FastTier* tier = nullptr;
  TierRow row{};
  const std::byte* bytes = nullptr;   ///< the row, once it is there
  std::shared_ptr<FetchBatch> batch;  ///< where it is read, and what keeps `bytes` alive
  std::uint32_t item = 0;
  bool counted = false;  ///< as a hit or an on-demand fetch
  enum class Pin : std::uint8_t { reserved, taken, given_back };
  Pin pin = Pin::reserved;  ///< what became of the pin reserved for it, where it is to be pinned
};

/// The distinct rows that a call has missed so far: an open-addressed hash from row to its place in
/// `rows`.
class MissSet {
 public:
  std::vector<Miss> rows;

  std::uint32_t add(FastTier* tier, TierRow row);
  void clear();
  void trim();
  std::size_t bytes() const;  ///< taken by now

 private:
  void grow();
  std::size_t place_of(const FastTier* tier, TierRow row) const;

  std::vector<std::uint32_t> table_;  ///< place in `rows` + 1; 0: free
};

/// A bag that misses some of its rows: pooled when they are there.
struct PendingBag {
  std::uint32_t part;  ///< the table's place in the call
  std::byte* out;
  std::size_t first;  ///< of its rows in `pending_rows`
  std::uint32_t rows;
  std::size_t weights;  ///< of its weights in `pending_weights`, bytes
};

struct CallScratch {
  // One chunk of bags.
  std::vector<TierRow> rows;
  std::vector<Entry> entries;
  std::vector<const std::byte*> pointers;
  std::vector<Slot> touched;
  std::vector<std::uint32_t> touched_at;  ///< their places in `rows`
  std::vector<std::uint32_t> saturated;   ///< places in `touched`
  std::vector<std::uint32_t> lengths;
  std::vector<std::byte> weights;  ///< where they are not the caller's own

  // Until the next fetch.
  MissSet misses;
  std::vector<PendingBag> pending;
  std::vector<std::uintptr_t>
      pending_rows;  ///< address of a held row, or place in `misses` * 2 + 1
  std::vector<std::byte> pending_weights;
  RowArena held;

  void trim();
};

}  // namespace tieralloc
