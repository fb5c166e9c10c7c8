// ghost_queue.hpp: the last rows to leave, in order and without their bytes.
//
// A first-in first-out queue of bounded length with removal from the middle, every call expected
// O(1). A row is kept as a key of 32 bits: below 2^32 rows its own number, beyond that folded, so
// that two rows rarely pass for one another. Not for concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../types.hpp"
#include "slot_lists.hpp"

namespace tieralloc {

class GhostQueue {
 public:
  using Key = std::uint32_t;

  static Key key_of(RowId row) { return static_cast<Key>(row ^ (row >> 32)); }

  /// Remembers `length` keys, and one more between a push and the next take.
  explicit GhostQueue(std::uint32_t length)
      : length_(length),
        order_(length + 1, kLists),
        keys_(length + 1),
        chain_(length + 1),
        chain_heads_(length + 1, kNoEntry) {
    for (Entry entry = 0; entry <= length; ++entry) order_.push_back(kFree, entry);
  }

  static std::size_t bytes(std::uint32_t length) {
    return SlotLists::bytes(length + 1, kLists) +
           (std::size_t{length} + 1) * (sizeof(Key) + 2 * sizeof(Entry));
  }

  void push(Key key) {
    trim();
    const Entry entry = order_.front(kFree);
    order_.erase(entry);
    order_.push_back(kQueue, entry);
    keys_[entry] = key;
    Entry& head = chain_head(key);
    chain_[entry] = head;
    head = entry;
    ++size_;
  }

  /// Whether the queue holds `key`, which then leaves it. Room for a row is made before it is asked
  /// after: the key pushed for that does not push this one out.
  bool take(Key key) {
    Entry entry = chain_head(key);
    while (entry != kNoEntry && keys_[entry] != key) entry = chain_[entry];
    if (entry != kNoEntry) erase(entry);
    trim();
    return entry != kNoEntry;
  }

 private:
  using Entry = std::uint32_t;
  static constexpr Entry kNoEntry = kNoSlot;
  enum : std::uint32_t { kQueue, kFree, kLists };

  Entry& chain_head(Key key) {
    const std::uint64_t hash = (key * 0x9E3779B97F4A7C15u) >> 32;
    return chain_heads_[hash * chain_heads_.size() >> 32];
  }

  void trim() {
    if (size_ > length_) erase(order_.front(kQueue));
  }

  void erase(Entry entry) {
    Entry* link = &chain_head(keys_[entry]);
    while (*link != entry) link = &chain_[*link];
    *link = chain_[entry];
    order_.erase(entry);
    order_.push_front(kFree, entry);
    --size_;
  }

  std::uint32_t length_;
  std::uint32_t size_ = 0;
  SlotLists order_;                 ///< of entries, not slots
  std::vector<Key> keys_;           ///< by entry
  std::vector<Entry> chain_;        ///< by entry: the next one of the same hash
  std::vector<Entry> chain_heads_;  ///< by hash
};

}  // namespace tieralloc
