// key_queue.hpp: a first-in first-out queue of keys with lookup and removal by key.
//
// All memory is allocated at construction; every call is expected O(1). A key may be in the queue
// more than once. Not for concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/types.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {

template <typename Key>
class KeyQueue {
 public:
  /// The place of a key while it is in the queue, below the length.
  using Entry = std::uint32_t;
  static constexpr Entry kNoEntry = kNoSlot;

  /// Holds up to `length` keys.
  explicit KeyQueue(std::uint32_t length)
      : order_(length, kLists), keys_(length), chain_(length), chain_heads_(length, kNoEntry) {
    for (Entry entry = 0; entry < length; ++entry) order_.push_back(kFree, entry);
  }

  static std::size_t bytes(std::uint32_t length) {
    return SlotLists::bytes(length, kLists) +
           std::size_t{length} * (sizeof(Key) + 2 * sizeof(Entry));
  }

  std::uint32_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == keys_.size(); }

  bool contains(Key key) const { return find(key) != kNoEntry; }

  /// The entry of a key, the last one pushed if there are several; kNoEntry if there is none.
  Entry find(Key key) const {
    Entry entry = chain_heads_[chain_of(key)];
    while (entry != kNoEntry && keys_[entry] != key) entry = chain_[entry];
    return entry;
  }

  /// Not for a full queue.
  Entry push(Key key) {
    const Entry entry = order_.front(kFree);
    order_.erase(entry);
    order_.push_back(kQueue, entry);
    keys_[entry] = key;
    Entry& head = chain_heads_[chain_of(key)];
    chain_[entry] = head;
    head = entry;
    ++size_;
    return entry;
  }

  /// Makes an entry the newest one.
  void renew(Entry entry) {
    order_.erase(entry);
    order_.push_back(kQueue, entry);
  }

  /// Renews the entry of a key, or pushes the key, popping the oldest one if the queue is full. The
  /// second value is true if the key was pushed.
  std::pair<Entry, bool> renew_or_push(Key key) {
    const Entry entry = find(key);
    if (entry != kNoEntry) {
      renew(entry);
      return {entry, false};
    }
    if (full()) pop();
    return {push(key), true};
  }

  /// The entry of the oldest key. Not for an empty queue.
  Entry oldest() const { return order_.front(kQueue); }

  /// Removes the oldest key. Not for an empty queue.
  Key pop() {
    const Entry entry = oldest();
    const Key key = keys_[entry];
    erase(entry);
    return key;
  }

  /// Removes an entry.
  void erase(Entry entry) {
    Entry* link = &chain_heads_[chain_of(keys_[entry])];
    while (*link != entry) link = &chain_[*link];
    *link = chain_[entry];
    order_.erase(entry);
    order_.push_front(kFree, entry);
    --size_;
  }

  /// Removes one occurrence of a key; false if there is none.
  bool take(Key key) {
    const Entry entry = find(key);
    if (entry == kNoEntry) return false;
    erase(entry);
    return true;
  }

 private:
  enum : std::uint32_t { kQueue, kFree, kLists };

  std::size_t chain_of(Key key) const {
    const std::uint64_t hash = (key * 0x9E3779B97F4A7C15u) >> 32;
    return hash * chain_heads_.size() >> 32;
  }

  std::uint32_t size_ = 0;
  SlotLists order_;                 ///< of entries, not slots
  std::vector<Key> keys_;           ///< by entry
  std::vector<Entry> chain_;        ///< by entry: the next entry of the same hash
  std::vector<Entry> chain_heads_;  ///< by hash
};

}  // namespace tieralloc
