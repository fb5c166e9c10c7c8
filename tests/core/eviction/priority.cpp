// priority.cpp: PriorityPolicy against a naive implementation.
#include "eviction/priority.hpp"

#include <map>
#include <random>
#include <vector>

#include "check.hpp"
#include "eviction/naive_priority.hpp"

namespace {

using namespace tieralloc;

TEST(priority_policy_random_calls_match_naive) {
  constexpr std::uint32_t kSlots = 40;
  for (std::uint32_t speed : {0u, 1u, 4u, 254u}) {
    std::mt19937_64 random(speed);
    PriorityPolicy policy({.capacity = kSlots, .slots = kSlots}, speed);
    NaivePriority naive(speed);
    std::vector<RowId> row_in(kSlots, kNoRow);
    for (RowId step = 0; step < 20000; ++step) {
      const auto slot = static_cast<Slot>(random() % kSlots);
      const auto other = static_cast<Slot>(random() % kSlots);
      const auto priority = static_cast<std::uint32_t>(random() % (speed + 4));
      const bool held = row_in[slot] != kNoRow;
      switch (random() % 8) {
        case 0:
        case 1:
          if (held) break;
          policy.insert(slot, step);
          naive.insert(step);
          row_in[slot] = step;
          break;
        case 2:
          policy.touch({&slot, 1});
          naive.touch(row_in[slot]);
          break;
        case 3:
        case 4:
          policy.set_priority(slot, priority);
          naive.set(row_in[slot], priority);
          break;
        case 5:
          if (!held || row_in[other] != kNoRow) break;
          policy.move(slot, other);
          std::swap(row_in[slot], row_in[other]);
          break;
        case 6:
          if (!held || step % 4 != 0) break;
          policy.remove(slot);
          naive.remove(row_in[slot]);
          row_in[slot] = kNoRow;
          break;
        default: {
          const Slot victim = policy.evict();
          const RowId row = naive.evict();
          CHECK_EQ(victim == kNoSlot, row == kNoRow);
          if (victim == kNoSlot) break;
          CHECK_EQ(row_in[victim], row);
          row_in[victim] = kNoRow;
        }
      }
    }
  }
}

TEST(priority_policy_evicts_in_order_of_decayed_priority) {
  PriorityPolicy policy({.capacity = 4, .slots = 4}, 2);
  for (Slot slot : {0u, 1u, 2u, 3u}) policy.insert(slot, slot);
  policy.set_priority(0, 3);
  policy.set_priority(2, 0);
  CHECK_EQ(policy.evict(), 2);
  CHECK_EQ(policy.evict(), 1);  // priorities have decayed from 2 to 0
  policy.insert(1, 9);          // priority 2; that of slot 0 has decayed from 3 to 1
  CHECK_EQ(policy.evict(), 3);
  CHECK_EQ(policy.evict(), 0);
  CHECK_EQ(policy.evict(), 1);
  CHECK_EQ(policy.evict(), kNoSlot);
}

TEST(priority_policy_too_high_eviction_speed_throws) {
  const EvictionConfig config{.capacity = 1, .slots = 1};
  CHECK_THROWS(std::invalid_argument, PriorityPolicy(config, 255),
               "eviction_speed: too high; expected at most 254, got 255");
}

}  // namespace
