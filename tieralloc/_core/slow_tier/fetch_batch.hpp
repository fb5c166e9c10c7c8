// batch.hpp: the rows that one call reads from the slow tier together, and that other calls may
// wait for.
//
// The owner adds rows (each under its tier's lock, which makes them visible to others), then reads
// once. Others hold the batch by shared_ptr and wait for single rows of it. `stale` is set under
// the tier's lock by whoever changes a row while it is read: what was read of it must then not be
// used.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>

#include "base/buffers.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

class FastTier;

struct FetchItem {
  FastTier* tier = nullptr;
  RowId row = kNoRow;
  std::uint64_t offset = 0;  ///< in the slow pool
  std::uint32_t length = 0;
  std::uint32_t op = 0;  ///< the read that brings it
  std::uint32_t at = 0;  ///< where in that read's buffer
  bool prefetch = false;
  bool joined = false;  ///< somebody else waits for it; under the tier's lock
  std::atomic<bool> stale{false};
};

class FetchBatch final : public ReadListener {
 public:
  FetchBatch(SlowPool& pool, BufferPool& buffers, std::size_t most_items);
  ~FetchBatch() override;

  std::uint32_t add(FastTier* tier, RowId row, std::uint64_t offset, std::uint32_t length,
                    bool prefetch);

  /// Called with rows [first, last) in the order in which they were added, each once it and all
  /// before it have an outcome: most of them while later ones are still on their way.
  using Landed = std::function<void(std::uint32_t first, std::uint32_t last)>;

  /// Reads every row added, those that share a block by one read, and returns when all have landed.
  void read(const Landed& landed);

  /// Gives every row without an outcome that of an error, an errno. Throws nothing.
  void fail(int code) noexcept;

  /// Waits for one row. 0 once its bytes are there, else minus an errno.
  std::int32_t wait(std::uint32_t item);

  FetchItem& item(std::uint32_t i) { return items_[i]; }
  std::uint32_t size() const { return size_; }
  const std::byte* bytes(std::uint32_t i) const { return ops_[items_[i].op].buffer + items_[i].at; }
  std::uint64_t started_ns() const { return started_ns_; }
  std::uint64_t ended_ns(std::uint32_t i) const { return ops_[items_[i].op].done_ns; }

  void take_in() noexcept override;

 private:
  void plan();
  void read_all();
  void tell_planned();

  SlowPool& pool_;
  BufferPool& buffers_;
  Region memory_;
  std::unique_ptr<FetchItem[]> items_;
  std::uint32_t size_ = 0;
  std::unique_ptr<ReadOp[]> ops_;
  std::uint32_t op_count_ = 0;
  const Landed* landed_ = nullptr;
  std::uint32_t landed_items_ = 0;
  std::exception_ptr landing_error_;  ///< kept while reads go on into our buffers
  std::uint64_t started_ns_ = 0;
  std::atomic<bool> planned_{false};  ///< every row has its place in a read
};

}  // namespace tieralloc
