// fetcher.hpp: brings rows from the slow tier, for lookups that wait for them and for prefetches
// that do not.
//
// Rows of one request are read as one batch. A row that somebody is reading already is waited for
// instead of read again. What was read is offered to the fast tier. Any number of threads; no lock
// is held while a read is under way.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/counters.hpp"
#include "epoch/epoch_manager.hpp"
#include "fast_tier/fast_tier.hpp"
#include "store/call_scratch.hpp"

namespace tieralloc {

struct RowPlace {
  FastTier* tier = nullptr;
  TierRow row{};
};

class Fetcher {
 public:
  /// Rows read as one batch at most; larger requests go in several.
  static constexpr std::size_t kMaxBatch = 4096;

  Fetcher(SlowPool& pool, BufferPool& buffers) : pool_(pool), buffers_(buffers) {}

  /// Gives every miss its bytes, valid as long as `misses` and `held` are, and counts into
  /// `counters`. Outside any read section. Throws SystemFailure where a row could not be read; rows
  /// that could are admitted all the same.
  void fetch(std::span<Miss> misses, RowArena& held, CallCounters& counters);

  /// Makes rows of one tier resident and pins them; the tier has as many pins reserved. `make_room`
  /// is called, outside of locks, where a row found no free slot. Throws SystemFailure, and what
  /// `make_room` throws: each row's `pin` then says what became of its pin.
  void pin(std::span<Miss> rows, RowArena& held, const std::function<void()>& make_room);

  /// Makes rows resident if they are not, flagged as prefetched. Reads that fail are forgotten: a
  /// lookup will find out.
  void prefetch(std::span<const RowPlace> rows);

 private:
  enum class State { fetched, again, failed };

  /// What is left to do of a batch that has been read.
  struct Outcome {
    std::vector<Miss*> again;  ///< changed while they were read
    Miss* failed = nullptr;
    std::int32_t error = 0;
  };

  void fetch_batch(std::span<Miss> misses, FastTier::Admit why, RowArena& held,
                   CallCounters& counters, const std::function<void()>& make_room);
  void fetch_once(std::span<Miss*> misses, FastTier::Admit why, std::shared_ptr<FetchBatch> batch,
                  RowArena& held, CallCounters& counters, Outcome& outcome);
  void prefetch_once(std::span<const RowPlace> rows, std::shared_ptr<FetchBatch> batch);
  template <typename Rows>
  static void abandon(const Rows& rows, FetchBatch& batch) noexcept;
  static void take_pin(Miss& miss);
  void begin(std::span<Miss*> misses, FastTier::Admit why, std::shared_ptr<FetchBatch> batch,
             RowArena& held, CallCounters& counters);
  void end(std::span<Miss* const> misses, const FetchBatch* own, FastTier::Admit why,
           CallCounters& counters, Outcome& outcome);
  State end(Miss& miss, const FetchBatch* own, FastTier::Admit why, std::int32_t& error);
  [[noreturn]] void fail(const Miss& miss, std::int32_t error) const;

  SlowPool& pool_;
  BufferPool& buffers_;
};

}  // namespace tieralloc
