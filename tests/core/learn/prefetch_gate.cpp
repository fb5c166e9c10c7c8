// prefetch_gate.cpp: what prefetching may cost before it is stopped, and when it is tried again.
#include "learn/prefetch_gate.hpp"

#include "check.hpp"
#include "split_mix.hpp"

namespace {

using namespace tieralloc;

/// Misses more than without prefetching in so many accesses, of which so many of a thousand are
/// missed without it, and others with it while the gate is open.
std::int64_t cost(PrefetchGate& gate, int accesses, std::uint32_t without, std::uint32_t with,
                  std::uint64_t seed = 1) {
  SplitMix64 random(seed);
  std::int64_t more = 0;
  for (int i = 0; i < accesses; ++i) {
    const bool missed_without = random.below(1000) < without;
    const bool missed = gate.is_open() ? random.below(1000) < with : missed_without;
    more += static_cast<int>(missed) - static_cast<int>(missed_without);
    const bool open = gate.note(missed, missed_without);
    CHECK_EQ(open, gate.is_open());
  }
  return more;
}

TEST(prefetching_that_always_harms_costs_a_few_misses_in_a_million_accesses) {
  PrefetchGate gate;
  CHECK(cost(gate, 1 << 20, 200, 300) < 400);
  CHECK(gate.closings() >= 5 && gate.closings() <= 9);
}

TEST(prefetching_that_neither_harms_nor_helps_does_not_add_up_to_harm) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    PrefetchGate gate;
    CHECK(cost(gate, 1 << 20, 250, 251, seed) < 200);
    CHECK(gate.closings() <= 12);
  }
}

TEST(prefetching_that_saves_misses_is_let_go_on) {
  PrefetchGate gate;
  CHECK(cost(gate, 1 << 20, 300, 200) < -90'000);
  CHECK_EQ(gate.closings(), 0);
}

TEST(it_is_tried_again_soon_after_it_has_been_of_use) {
  PrefetchGate gate;
  cost(gate, 1 << 20, 200, 300);
  while (!gate.is_open()) gate.note(false, false);
  cost(gate, 1 << 14, 300, 200);
  CHECK(gate.is_open());
  while (gate.is_open()) gate.note(true, false);
  int closed_for = 0;
  for (; !gate.is_open(); ++closed_for) gate.note(false, false);
  CHECK_EQ(closed_for, 1 << 13);
}

}  // namespace
