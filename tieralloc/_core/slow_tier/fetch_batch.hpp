// fetch_batch.hpp: the rows that one call reads from the slow tier together.
//
// The owner adds rows and then reads once. Each row is added under the lock of its tier, which
// makes it visible to other calls: they share the batch and wait for single rows of it. An update
// of a row sets `stale` under the same lock; then the bytes read must not be used.
//
//   plan:  sort rows by page; grow a read while the next page touches its last block. A page is
//          read once, and checked once, for all of its rows.
//   read:  all reads of the plan at once; report rows in the order in which they were added
//   check: each page, in the first thread that needs a row of it; a page that fails is read again
//          by the pool, into memory of its own
//
// Concurrency: one owner; `wait`, `item`, `bytes` and times may be called by any thread that found
// its row under the tier's lock. `bytes` needs a `wait` before it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/buffers.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

struct FetchItem {
  static constexpr std::int32_t kUnchecked = 1;

  RowAddress row;
  std::uint32_t op = 0;      ///< the read that contains the page
  std::uint32_t at = 0;      ///< place of the page in that read's buffer
  std::uint32_t leader = 0;  ///< an item of the same page, which has the page's state:
  /// kUnchecked, then 0, or minus an errno.
  std::atomic<std::int32_t> outcome{kUnchecked};
  std::vector<std::byte> recovered;  ///< the page, if it was read again
  bool is_prefetch = false;
  bool is_shared = false;  ///< another call waits for it; under the tier's lock
  std::atomic<bool> stale{false};
};

class FetchBatch final : public ReadListener {
 public:
  /// A read goes on over `max_gap` bytes that no row needs.
  FetchBatch(SlowPool& pool, BufferPool& buffers, std::size_t max_items, std::uint64_t max_gap = 0);
  ~FetchBatch() override;

  /// Returns the item's number.
  std::uint32_t add(const RowAddress& row, bool is_prefetch);

  /// Receives items [first, last), each once it and all items before it are complete. Most are
  /// reported while later ones are still being read.
  using OnComplete = std::function<void(std::uint32_t first, std::uint32_t last)>;

  /// Reads all items and returns when all are complete. Throws what `on_complete` throws.
  void read(const OnComplete& on_complete);

  /// Completes all incomplete items with an error, an errno.
  void fail(int code) noexcept;

  /// Waits for one item and checks its page. 0 if its bytes are valid, else minus an errno.
  std::int32_t wait(std::uint32_t item);

  FetchItem& item(std::uint32_t i) { return items_[i]; }
  std::uint32_t size() const { return size_; }
  const std::byte* bytes(std::uint32_t i) const {
    const FetchItem& item = items_[i];
    const FetchItem& leader = items_[item.leader];
    return (leader.recovered.empty() ? page(item) : leader.recovered.data()) + item.row.at;
  }
  /// Whether the item is the first of its page: the others cost no device read.
  bool is_leader(std::uint32_t i) const { return items_[i].leader == i; }
  std::uint64_t started_ns() const { return started_ns_; }
  std::uint64_t ended_ns(std::uint32_t i) const { return ops_[items_[i].op].done_ns; }

  void on_completions() noexcept override;

 private:
  void plan();
  void read_all();
  void publish_plan();
  const std::byte* page(const FetchItem& item) const { return ops_[item.op].buffer + item.at; }
  std::int32_t check(FetchItem& item);

  SlowPool& pool_;
  BufferPool& buffers_;
  const std::uint64_t max_gap_;
  Region memory_;
  std::unique_ptr<FetchItem[]> items_;
  std::uint32_t size_ = 0;
  std::unique_ptr<ReadOp[]> ops_;
  std::uint32_t num_ops_ = 0;
  const OnComplete* on_complete_ = nullptr;
  std::uint32_t num_reported_ = 0;
  std::exception_ptr callback_error_;  ///< kept until the device writes to no buffer any more
  std::uint64_t started_ns_ = 0;
  std::mutex recovery_;
  std::atomic<bool> is_planned_{false};  ///< every item has its place in a read
};

}  // namespace tieralloc
