// contest.cpp: who takes over, when, and what it costs until then.
#include "learn/contest.hpp"

#include <algorithm>

#include "check.hpp"
#include "split_mix.hpp"

namespace {

using namespace tieralloc;

constexpr double kPatience = 10;

bool decide(Contest& contest) {
  return contest.decide([](std::size_t) { return kPatience; });
}

TEST(who_leads_takes_over_once_it_leads_by_more_than_the_patience) {
  Contest contest(3, 1);
  contest.gain(0, 4);
  contest.gain(2, 10);
  CHECK(!decide(contest));
  contest.gain(2, 0.5);
  CHECK(decide(contest));
  CHECK_EQ(contest.in_charge(), 2);
  CHECK(!decide(contest));
  contest.gain(0, 10.5);  // what it led by before does not count any more
  CHECK(decide(contest));
  CHECK_EQ(contest.in_charge(), 0);
}

TEST(how_far_one_was_behind_before_does_not_matter) {
  Contest contest(2, 0);
  contest.gain(1, -1000);
  contest.gain(1, 11);
  CHECK(decide(contest));
}

TEST(who_leads_by_the_most_for_its_patience_comes_first) {
  Contest contest(3, 2);
  contest.gain(0, 30);
  contest.gain(1, 25);
  CHECK(contest.decide([](std::size_t i) { return i == 0 ? 20.0 : 10.0; }));
  CHECK_EQ(contest.in_charge(), 1);
}

TEST(being_behind_costs_no_more_than_the_patience_a_switch) {
  SplitMix64 random(3);
  Contest contest(2, 0);
  int behind = 0;  // of who is in charge, since it came or last led
  for (int i = 0; i < 100000; ++i) {
    const std::uint32_t favourite = i / 1000 % 2;
    const bool missed[] = {random.below(10) < (favourite == 0 ? 2u : 6u),
                           random.below(10) < (favourite == 1 ? 2u : 6u)};
    const std::size_t now = contest.in_charge();
    const int more = static_cast<int>(missed[now]) - static_cast<int>(missed[1 - now]);
    behind = std::max(0, behind + more);
    contest.gain(1 - now, more);
    if (decide(contest)) behind = 0;
    CHECK(behind <= kPatience);
  }
}

}  // namespace
