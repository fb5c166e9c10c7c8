// set_aside.cpp: SetAside against a plain model, and what it learns.
#include "eviction/set_aside.hpp"

#include <algorithm>
#include <deque>

#include "check.hpp"
#include "split_mix.hpp"

namespace {

using namespace tieralloc;

TEST(rows_fetched_ahead_leave_in_the_order_in_which_they_came_unless_they_are_used) {
  SetAside aside(400);
  std::deque<RowId> plain;
  SplitMix64 random(1);
  RowId next = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto what = random.below(4);
    if (what < 2) {
      const RowId gone = aside.add(next);
      plain.push_back(next++);
      CHECK_EQ(gone, plain.size() > 200 ? plain.front() : kNoRow);
      if (gone != kNoRow) plain.pop_front();
    } else if (what == 2 && !plain.empty()) {
      const auto which = random.below(static_cast<std::uint32_t>(plain.size()));
      const RowId row = plain[which];
      CHECK(aside.contains(row));
      CHECK(random.below(2) == 0 ? aside.use(row, 5'000'000 + row) : aside.drop(row));
      CHECK(!aside.contains(row) && !aside.use(row, row) && !aside.drop(row));
      plain.erase(plain.begin() + which);
    } else if (what == 3 && aside.is_over()) {
      CHECK_EQ(aside.pop_oldest(), plain.front());
      plain.pop_front();
    }
    CHECK_EQ(aside.size(), plain.size());
    CHECK_EQ(aside.is_over(), plain.size() > aside.target());
  }
  while (!plain.empty()) {
    CHECK_EQ(aside.pop_oldest(), plain.front());
    plain.pop_front();
  }
  CHECK_EQ(aside.pop_oldest(), kNoRow);
}

/// Rows come and leave as a tier has them; some old one is used now and then, and some that left.
void serve(SetAside& aside, std::uint32_t old_uses, std::uint32_t misses) {
  SplitMix64 random(2);
  std::deque<RowId> there;
  for (RowId row = 0; row < 20000; ++row) {
    aside.add(row);
    there.push_back(row);
    while (aside.is_over()) {
      aside.pop_oldest();
      there.pop_front();
    }
    aside.note_eviction(1'000'000 + row);
    if (random.below(100) < old_uses && there.size() > 8) {
      aside.use(there.front(), there.front());
      there.pop_front();
    }
    if (random.below(100) < misses) aside.note_miss(1'000'000 + row - 3);
  }
}

TEST(late_uses_let_more_rows_stay_and_misses_of_rows_that_left_fewer) {
  SetAside useful(4096), harmful(4096);
  CHECK_EQ(useful.target(), 1024);
  serve(useful, 30, 5);
  CHECK_EQ(useful.target(), 2048);
  serve(harmful, 5, 30);
  CHECK_EQ(harmful.target(), 64);
}

TEST(a_row_that_left_long_ago_or_not_at_all_says_nothing) {
  SetAside aside(4096);
  aside.note_miss(7);
  aside.note_eviction(7);
  for (RowId row = 100; row < 100 + 256; ++row) aside.note_eviction(row);
  aside.note_miss(7);
  CHECK_EQ(aside.target(), 1024);
  aside.note_miss(355);
  aside.note_miss(355);
  CHECK_EQ(aside.target(), 1020);
}

TEST(a_tier_of_a_single_row_can_set_it_aside) {
  SetAside aside(1);
  CHECK_EQ(aside.add(3), kNoRow);
  CHECK_EQ(aside.add(4), 3);
  CHECK(!aside.is_over());
  CHECK(aside.use(4, 4));
  CHECK_EQ(aside.size(), 0);
}

}  // namespace
