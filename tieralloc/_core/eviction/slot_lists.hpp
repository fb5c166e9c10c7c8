// slot_lists.hpp: circular doubly linked lists of slots that share one pair of links a slot.
//
// A slot is in one list at a time or in none. All links are made at construction; every call is
// O(1). Not for concurrent use.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

class SlotLists {
 public:
  using List = std::uint32_t;  ///< which list, from 0

  SlotLists(std::uint32_t slots, std::uint32_t lists)
      : slots_(slots), links_(std::size_t{slots} + lists, Link{kNoSlot, kNoSlot}) {
    for (std::uint32_t head = slots; head < slots + lists; ++head) links_[head] = {head, head};
  }

  static std::size_t bytes(std::uint32_t slots, std::uint32_t lists) {
    return (std::size_t{slots} + lists) * sizeof(Link);
  }

  bool contains(Slot slot) const { return links_[slot].next != kNoSlot; }
  bool empty(List list) const { return links_[slots_ + list].next == slots_ + list; }

  /// First and last of a list; kNoSlot where it is empty.
  Slot front(List list) const { return slot_or_none(links_[slots_ + list].next); }
  Slot back(List list) const { return slot_or_none(links_[slots_ + list].prev); }

  /// The neighbours of a slot in its list; kNoSlot beyond either end.
  Slot next(Slot slot) const { return slot_or_none(links_[slot].next); }
  Slot prev(Slot slot) const { return slot_or_none(links_[slot].prev); }

  void push_front(List list, Slot slot) { link(slot, slots_ + list, links_[slots_ + list].next); }
  void push_back(List list, Slot slot) { link(slot, links_[slots_ + list].prev, slots_ + list); }

  /// Puts `slot`, which is in no list, right after `before`, which is in one.
  void insert_after(Slot before, Slot slot) { link(slot, before, links_[before].next); }

  void erase(Slot slot) {
    assert(contains(slot));
    const Link gone = links_[slot];
    links_[gone.prev].next = gone.next;
    links_[gone.next].prev = gone.prev;
    links_[slot] = {kNoSlot, kNoSlot};
  }

  /// `to`, which is in no list, takes the place of `from`.
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
  std::vector<Link> links_;  ///< a link a slot, then the head of each list
};

}  // namespace tieralloc
