// slot_lists.hpp: circular doubly linked lists of slots, with one pair of links per slot.
//
// A slot is in one list or in none. All memory is allocated at construction; every call is O(1).
// Not for concurrent use.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

class SlotLists {
 public:
  using List = std::uint32_t;  ///< number of a list, from 0

  SlotLists(std::uint32_t slots, std::uint32_t lists)
      : slots_(slots), links_(std::size_t{slots} + lists, Link{kNoSlot, kNoSlot}) {
    for (std::uint32_t head = slots; head < slots + lists; ++head) links_[head] = {head, head};
  }

  static std::size_t bytes(std::uint32_t slots, std::uint32_t lists) {
    return (std::size_t{slots} + lists) * sizeof(Link);
  }

  bool contains(Slot slot) const { return links_[slot].next != kNoSlot; }
  bool empty(List list) const { return links_[slots_ + list].next == slots_ + list; }

  /// First and last slot of a list; kNoSlot if it is empty.
  Slot front(List list) const { return slot_or_none(links_[slots_ + list].next); }
  Slot back(List list) const { return slot_or_none(links_[slots_ + list].prev); }

  /// The neighbours of a slot in its list; kNoSlot beyond either end.
  Slot next(Slot slot) const { return slot_or_none(links_[slot].next); }
  Slot prev(Slot slot) const { return slot_or_none(links_[slot].prev); }

  void push_front(List list, Slot slot) { link(slot, slots_ + list, links_[slots_ + list].next); }
  void push_back(List list, Slot slot) { link(slot, links_[slots_ + list].prev, slots_ + list); }

  /// Inserts `slot`, which is in no list, right after `before`, which is in a list.
  void insert_after(Slot before, Slot slot) { link(slot, before, links_[before].next); }

  void erase(Slot slot) {
    assert(contains(slot));
    const Link removed = links_[slot];
    links_[removed.prev].next = removed.next;
    links_[removed.next].prev = removed.prev;
    links_[slot] = {kNoSlot, kNoSlot};
  }

  /// Replaces `from` in its list by `to`, which is in no list.
  void move(Slot from, Slot to) {
    const Slot before = links_[from].prev;
    erase(from);
    insert_after(before, to);
  }

 private:
  struct Link {
    std::uint32_t prev;
    std::uint32_t next;
  };

  Slot slot_or_none(std::uint32_t index) const { return index < slots_ ? index : kNoSlot; }

  void link(Slot slot, std::uint32_t prev, std::uint32_t next) {
    assert(slot < slots_ && !contains(slot));
    links_[slot] = {prev, next};
    links_[prev].next = slot;
    links_[next].prev = slot;
  }

  std::uint32_t slots_;
  std::vector<Link> links_;  ///< one per slot, then one per list: its head
};

}  // namespace tieralloc
