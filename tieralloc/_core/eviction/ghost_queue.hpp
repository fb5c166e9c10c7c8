// ghost_queue.hpp: keys of the most recently evicted rows, oldest first.
//
// A key has 32 bits: the row's number if that is below 2^32, else a fold of it, which two rows
// rarely share. Memory is bounded; every call is expected O(1). Not for concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/types.hpp"
#include "eviction/key_queue.hpp"

namespace tieralloc {

class GhostQueue {
 public:
  using Key = std::uint32_t;

  static Key key_of(RowId row) { return static_cast<Key>(row ^ (row >> 32)); }

  /// Holds `length` keys, and one more between a push and the next take.
  explicit GhostQueue(std::uint32_t length) : queue_(length + 1) {}

  static std::size_t bytes(std::uint32_t length) { return KeyQueue<Key>::bytes(length + 1); }

  void push(Key key) {
    trim();
    queue_.push(key);
  }

  /// Removes `key`; false if the queue does not hold it. An insertion evicts before it takes its
  /// key: the key pushed by that eviction does not push this one out.
  bool take(Key key) {
    const bool is_ghost = queue_.take(key);
    trim();
    return is_ghost;
  }

 private:
  void trim() {
    if (queue_.full()) queue_.pop();
  }

  KeyQueue<Key> queue_;
};

}  // namespace tieralloc
