// buffers.hpp: buffers for device reads and for copies of rows, kept between calls.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <vector>

#include "base/memory.hpp"
#include "base/types.hpp"

namespace tieralloc {

/// Read buffers of power-of-two sizes. Keeps the buffers that were returned last, up to
/// `max_idle_bytes` in total. Any number of threads. Cost: O(idle buffers).
class BufferPool {
 public:
  explicit BufferPool(std::size_t max_idle_bytes) : max_idle_bytes_(max_idle_bytes) {}

  Region take(std::size_t bytes) {
    const std::size_t size = std::bit_ceil(bytes < kPage ? kPage : bytes);
    std::lock_guard lock(mutex_);
    for (auto it = idle_.begin(); it != idle_.end(); ++it) {
      if (it->size() != size) continue;
      Region region = std::move(*it);
      idle_.erase(it);
      idle_bytes_ -= size;
      return region;
    }
    Region region(size, "reads from the slow tier");
    bytes_ += size;
    return region;
  }

  void give_back(Region region) noexcept {
    const std::size_t size = region.size();
    std::lock_guard lock(mutex_);
    if (size <= max_idle_bytes_) {
      try {
        idle_.push_back(std::move(region));
        idle_bytes_ += size;
        while (idle_bytes_ > max_idle_bytes_) end_oldest();
        return;
      } catch (const std::bad_alloc&) {  // without room in the list, the buffer ends
      }
    }
    bytes_ -= size;
  }

  /// Bytes in use and idle.
  std::size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  void end_oldest() {
    idle_bytes_ -= idle_.front().size();
    bytes_ -= idle_.front().size();
    idle_.pop_front();
  }

  const std::size_t max_idle_bytes_;
  std::mutex mutex_;
  std::deque<Region> idle_;  ///< the oldest first
  std::size_t idle_bytes_ = 0;
  std::atomic<std::size_t> bytes_{0};
};

/// Copies of rows of one call. Pointers stay valid until `clear`. One thread.
class RowArena {
 public:
  std::byte* push(const std::byte* row, std::size_t bytes) {
    std::byte* room = next_room(bytes);
    std::memcpy(room, row, bytes);
    keep(bytes);
    return room;
  }

  /// Room for one row, which the next row overwrites unless it is kept.
  std::byte* next_room(std::size_t bytes) {
    const std::size_t room = round_up(bytes, kCacheLine);
    if (blocks_.empty() || used_ + room > blocks_[block_].size()) next_block(room);
    return blocks_[block_].data() + used_;
  }
  void keep(std::size_t bytes) {
    used_ += round_up(bytes, kCacheLine);
    total_ += round_up(bytes, kCacheLine);
  }

  void clear() {
    if (blocks_.size() > 1) blocks_.resize(1);
    block_ = used_ = total_ = 0;
  }

  std::size_t bytes() const { return total_; }

 private:
  void next_block(std::size_t room) {
    constexpr std::size_t kBlock = std::size_t{1} << 20;
    blocks_.emplace_back(room > kBlock ? room : kBlock, "copies of rows");
    block_ = blocks_.size() - 1;
    used_ = 0;
  }

  std::vector<Region> blocks_;
  std::size_t block_ = 0;
  std::size_t used_ = 0;
  std::size_t total_ = 0;
};

}  // namespace tieralloc
