// access_ring.hpp: which rows a thread's lookups accessed, on their way to whoever learns from
// them.
//
// Bounded: what does not fit is dropped and counted, a piece of a call at a time, so that what is
// kept has no holes within a piece; serving never waits for learning. One thread pushes, one pops.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "counters.hpp"
#include "memory.hpp"
#include "types.hpp"

namespace tieralloc {

class AccessRing {
 public:
  static constexpr std::size_t kMost = std::size_t{1} << 28;

  /// Holds `capacity` accesses, rounded up to a power of two.
  explicit AccessRing(std::size_t capacity)
      : mask_(std::bit_ceil(std::max<std::size_t>(capacity, 2)) - 1),
        memory_((mask_ + 1) * sizeof(RowId), "ring of accesses") {}

  /// Appends `rows`, each numbered `shift` higher (in wrapping arithmetic), or none of them.
  void push(std::span<const RowId> rows, RowId shift) {
    const std::uint64_t end = end_.load(std::memory_order_relaxed);
    if (mask_ + 1 - (end - begin_.load(std::memory_order_acquire)) < rows.size()) {
      dropped_.add(rows.size());
      return;
    }
    const std::size_t at = end & mask_;
    const std::size_t before_wrap = std::min<std::size_t>(rows.size(), mask_ + 1 - at);
    copy(rows.first(before_wrap), shift, memory_.as<RowId>() + at);
    copy(rows.subspan(before_wrap), shift, memory_.as<RowId>());
    end_.store(end + rows.size(), std::memory_order_release);
  }

  /// Appends what the ring holds to `rows`, in the order of access.
  void pop(std::vector<RowId>& rows) {
    const std::uint64_t end = end_.load(std::memory_order_acquire);
    const std::uint64_t begin = begin_.load(std::memory_order_relaxed);
    const RowId* ring = memory_.as<RowId>();
    const std::size_t at = begin & mask_;
    const std::size_t before_wrap = std::min<std::size_t>(end - begin, mask_ + 1 - at);
    rows.insert(rows.end(), ring + at, ring + at + before_wrap);
    rows.insert(rows.end(), ring, ring + (end - begin - before_wrap));
    begin_.store(end, std::memory_order_release);
  }

  std::uint64_t dropped() const { return dropped_.get(); }
  std::size_t bytes() const { return memory_.size(); }

 private:
  static void copy(std::span<const RowId> rows, RowId shift, RowId* to) {
    for (std::size_t i = 0; i < rows.size(); ++i) to[i] = rows[i] + shift;
  }

  const std::size_t mask_;
  Region memory_;
  Count dropped_;
  // Positions only grow; each has a cache line of its own, since each is written by one side.
  alignas(kCacheLine) std::atomic<std::uint64_t> begin_{0};
  alignas(kCacheLine) std::atomic<std::uint64_t> end_{0};
};

}  // namespace tieralloc
