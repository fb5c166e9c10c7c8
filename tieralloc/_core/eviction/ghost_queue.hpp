// ghost_queue.hpp: the last rows to leave, in order and without their bytes.
//
// Bounded, every call expected O(1). A row is kept as a key of 32 bits: below 2^32 rows its own
// number, beyond that folded, so that two rows rarely pass for one another. Not for concurrent use.
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

  /// Remembers `length` keys, and one more between a push and the next take.
  explicit GhostQueue(std::uint32_t length) : queue_(length + 1) {}

  static std::size_t bytes(std::uint32_t length) { return KeyQueue<Key>::bytes(length + 1); }

  void push(Key key) {
    trim();
    queue_.push(key);
  }

  /// Whether the queue holds `key`, which then leaves it. Room for a row is made before it is asked
  /// after: the key pushed for that does not push this one out.
  bool take(Key key) {
    const bool held = queue_.take(key);
    trim();
    return held;
  }

 private:
  void trim() {
    if (queue_.full()) queue_.pop();
  }

  KeyQueue<Key> queue_;
};

}  // namespace tieralloc
