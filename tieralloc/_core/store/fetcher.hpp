// fetcher.hpp: fetches rows from the slow tier, for lookups, prefetches and pins.
//
// The rows of one request are read as one batch. A row that another call reads already is not read
// again: the request waits for that read. Rows read are offered to the fast tier.
//
//   per row, locked: resident -> copy it; updated, but not in its page yet -> copy that value;
//                    in flight -> join the read; else -> start a read
//   read the batch; per completed row, locked: finish the read, admit the row
//   wait for joined rows; repeat with rows that were updated meanwhile
//
// Concurrency: any number of threads. No lock is held during a read.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/counters.hpp"
#include "fast_tier/fast_tier.hpp"
#include "store/call_scratch.hpp"

namespace tieralloc {

struct RowPlace {
  FastTier* tier = nullptr;
  TierRow row{};
};

class Fetcher {
 public:
  /// Larger requests are split.
  static constexpr std::size_t kMaxBatchRows = 4096;

  Fetcher(SlowPool& pool, BufferPool& buffers) : pool_(pool), buffers_(buffers) {}

  /// Sets `bytes` of every miss, valid as long as `misses` and `copies` are. Call it outside of
  /// read sections. Throws SystemFailure if a row cannot be read; rows that can be read are
  /// admitted all the same.
  void fetch(std::span<Miss> misses, RowArena& copies, CallCounters& counters);

  /// Makes rows of one tier resident and pins them with the pins that the caller reserved. Throws
  /// SystemFailure; each row's `pin` then holds the state of its pin.
  void pin(std::span<Miss> rows, RowArena& copies);

  /// Makes rows resident, marked as prefetched, or for a warm-up. Ignores reads that fail: a lookup
  /// will report them.
  void prefetch(std::span<const RowPlace> rows, FastTier::Admit reason = FastTier::Admit::prefetch);

 private:
  enum class State { fetched, retry, failed };

  struct Outcome {
    std::vector<Miss*> retries;  ///< updated while they were read
    Miss* failed = nullptr;
    std::int32_t error = 0;
  };

  void fetch_batch(std::span<Miss> misses, FastTier::Admit reason, RowArena& copies,
                   CallCounters& counters);
  void fetch_once(std::span<Miss*> misses, FastTier::Admit reason,
                  std::shared_ptr<FetchBatch> batch, RowArena& copies, CallCounters& counters,
                  Outcome& outcome);
  void prefetch_once(std::span<const RowPlace> rows, FastTier::Admit reason,
                     std::shared_ptr<FetchBatch> batch);
  template <typename Rows>
  static void abandon(const Rows& rows, FetchBatch& batch) noexcept;
  static void take_pin(Miss& miss);
  void begin(std::span<Miss*> misses, FastTier::Admit reason, std::shared_ptr<FetchBatch> batch,
             RowArena& copies, CallCounters& counters, Outcome& outcome);
  const std::byte* copy_updated(const FastTier& tier, TierRow row, RowArena& copies) const;
  void finish(std::span<Miss* const> misses, const FetchBatch* own, FastTier::Admit reason,
              CallCounters& counters, Outcome& outcome);
  State finish(Miss& miss, const FetchBatch* own, FastTier::Admit reason, std::int32_t& error);
  [[noreturn]] void fail(const Miss& miss, std::int32_t error) const;

  SlowPool& pool_;
  BufferPool& buffers_;
};

}  // namespace tieralloc
