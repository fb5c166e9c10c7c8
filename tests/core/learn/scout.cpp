// scout.cpp: how often what does not pay is looked at, and that what comes to pay is seen.
#include "learn/scout.hpp"

#include "check.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint64_t kWindow = 100;

/// Of so many accesses, those at which it was out.
std::uint64_t accesses_out(Scout& scout, std::uint64_t accesses, bool is_done) {
  std::uint64_t out = 0;
  for (std::uint64_t i = 0; i < accesses; ++i) {
    out += scout.is_out() ? 1 : 0;
    scout.note(is_done);
  }
  return out;
}

TEST(what_never_pays_is_looked_at_for_a_window_and_then_ever_less_often) {
  Scout scout(kWindow);
  CHECK_EQ(accesses_out(scout, kWindow, false), kWindow);
  CHECK_EQ(accesses_out(scout, 8 * kWindow, false), 0);
  CHECK_EQ(accesses_out(scout, kWindow, false), kWindow);
  CHECK_EQ(accesses_out(scout, 16 * kWindow, false), 0);
  CHECK(accesses_out(scout, 10'000 * kWindow, false) < 170 * kWindow);
  CHECK(accesses_out(scout, 10'000 * kWindow, false) >= 150 * kWindow);
}

TEST(while_it_is_done_it_is_looked_at_and_to_the_end_of_the_window) {
  Scout scout(kWindow);
  CHECK_EQ(accesses_out(scout, kWindow / 2, false), kWindow / 2);
  CHECK_EQ(accesses_out(scout, 1000 * kWindow, true), 1000 * kWindow);
  CHECK_EQ(accesses_out(scout, 3 * kWindow, false), kWindow / 2);
}

TEST(what_is_given_up_within_a_window_counts_for_nothing) {
  Scout scout(kWindow);
  accesses_out(scout, 3 * kWindow / 4, true);
  CHECK_EQ(accesses_out(scout, kWindow / 4 + 8 * kWindow, false), kWindow / 4);
  accesses_out(scout, 3 * kWindow / 4, true);
  CHECK_EQ(accesses_out(scout, kWindow / 4 + 16 * kWindow, false), kWindow / 4);
}

TEST(after_it_paid_it_is_soon_looked_at_again) {
  Scout scout(kWindow);
  accesses_out(scout, 1000 * kWindow, false);
  while (!scout.is_out()) scout.note(false);
  CHECK_EQ(accesses_out(scout, kWindow, true), kWindow);
  CHECK_EQ(accesses_out(scout, kWindow, false), kWindow);
  CHECK_EQ(accesses_out(scout, 9 * kWindow, false), kWindow);
}

}  // namespace
