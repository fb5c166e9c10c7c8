// slot_lists.cpp: SlotLists against std::vector.
#include "eviction/slot_lists.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include "check.hpp"

namespace {

using tieralloc::kNoSlot;
using tieralloc::Slot;
using tieralloc::SlotLists;

void compare(const SlotLists& lists, const std::vector<std::vector<Slot>>& naive) {
  for (std::uint32_t list = 0; list < naive.size(); ++list) {
    const std::vector<Slot>& expected = naive[list];
    CHECK_EQ(lists.empty(list), expected.empty());
    Slot forward = lists.front(list);
    for (Slot slot : expected) {
      CHECK_EQ(forward, slot);
      CHECK(lists.contains(slot));
      forward = lists.next(forward);
    }
    CHECK_EQ(forward, kNoSlot);
    Slot backward = lists.back(list);
    for (auto it = expected.rbegin(); it != expected.rend(); ++it) {
      CHECK_EQ(backward, *it);
      backward = lists.prev(backward);
    }
    CHECK_EQ(backward, kNoSlot);
  }
}

TEST(slot_lists_random_calls_match_vectors) {
  constexpr std::uint32_t kSlots = 20;
  constexpr std::uint32_t kLists = 3;
  std::mt19937_64 random(1);
  SlotLists lists(kSlots, kLists);
  std::vector<std::vector<Slot>> naive(kLists);
  for (int step = 0; step < 5000; ++step) {
    const auto slot = static_cast<Slot>(random() % kSlots);
    const auto list = static_cast<std::uint32_t>(random() % kLists);
    auto holder = std::find_if(naive.begin(), naive.end(), [slot](const auto& rows) {
      return std::find(rows.begin(), rows.end(), slot) != rows.end();
    });
    CHECK_EQ(lists.contains(slot), holder != naive.end());
    if (holder != naive.end()) {
      auto place = std::find(holder->begin(), holder->end(), slot);
      const auto other = static_cast<Slot>(random() % kSlots);
      if (random() % 2 == 0 && !lists.contains(other)) {
        lists.move(slot, other);
        *place = other;
      } else {
        lists.erase(slot);
        holder->erase(place);
      }
    } else if (random() % 3 == 0) {
      lists.push_front(list, slot);
      naive[list].insert(naive[list].begin(), slot);
    } else if (random() % 2 == 0 || naive[list].empty()) {
      lists.push_back(list, slot);
      naive[list].push_back(slot);
    } else {
      const std::size_t at = random() % naive[list].size();
      lists.insert_after(naive[list][at], slot);
      naive[list].insert(naive[list].begin() + static_cast<std::ptrdiff_t>(at) + 1, slot);
    }
    compare(lists, naive);
  }
}

}  // namespace
