// guard.cpp: who is put in charge, and whether the shadows see what the tier would.
#include "learn/guard.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.hpp"

namespace {

using namespace tieralloc;

std::vector<RowId> loop_over(RowId first, RowId rows, int rounds) {
  std::vector<RowId> accesses;
  for (int round = 0; round < rounds; ++round) {
    for (RowId row = 0; row < rows; ++row) accesses.push_back(first + row);
  }
  return accesses;
}

TEST(whoever_misses_less_is_put_in_charge_and_loses_it_again) {
  Guard guard({.capacity = 100, .policies = {"lru", "random"}, .half_life = 1000});
  CHECK_EQ(guard.choice(), Guard::kLearned);
  guard.observe(loop_over(1000, 2000, 1));  // nothing comes twice: nobody leads
  CHECK_EQ(guard.choice(), Guard::kLearned);
  // A loop somewhat longer than the tier: lru, and advised by nobody the learned policy, miss all.
  guard.observe(loop_over(0, 110, 100));
  CHECK_EQ(guard.choice(), 1);
  // The learned policy is told of what is coming and leads.
  for (int round = 0; round < 200; ++round) {
    for (RowId row = 0; row < 110; ++row) {
      const RowId furthest[] = {(row + 109) % 110};
      guard.learned().clear_advice();
      guard.learned().advise_evictions(furthest, 1);
      const RowId accessed[] = {row};
      guard.observe(accessed);
    }
  }
  CHECK_EQ(guard.choice(), Guard::kLearned);
  CHECK(guard.switches() >= 2 && guard.switches() <= guard.sampled() / 500);
  const std::vector<double> ratios = guard.miss_ratios();
  CHECK_EQ(ratios.size(), 3);
  CHECK(ratios[2] < 0.8 * std::min(ratios[0], ratios[1]));
}

TEST(whoever_is_in_charge_is_never_behind_by_more_than_the_margin_and_the_patience) {
  constexpr std::uint32_t kCapacity = 100;
  constexpr double kMargin = 0.02, kPatience = 20, kChangeover = 2;
  const std::vector<std::string> policies{"lru", "sieve", "random"};
  Guard guard({.capacity = kCapacity,
               .policies = policies,
               .margin = kMargin,
               .patience = kPatience,
               .changeover = kChangeover});
  std::vector<ShadowTier> tiers;
  for (const std::string& policy : policies) tiers.emplace_back(policy, kCapacity, 0);
  tiers.emplace_back("lru", kCapacity, 0);  // the learned one's, advised by nobody
  std::mt19937_64 random(3);
  std::vector<double> misses(tiers.size());  // since the last switch
  std::size_t in_charge = tiers.size() - 1;
  for (int phase = 0; phase < 60; ++phase) {
    const RowId rows = 50 + random() % 300;
    const bool loops = random() % 2 == 0;
    for (int i = 0; i < 2000; ++i) {
      const RowId row = loops ? i % rows : random() % (1 + random() % rows);
      const RowId accessed[] = {row};
      guard.observe(accessed);
      for (std::size_t t = 0; t < tiers.size(); ++t) misses[t] += tiers[t].access(row) ? 0 : 1;
      const std::size_t choice =
          guard.choice() == Guard::kLearned ? tiers.size() - 1 : guard.choice();
      if (choice != in_charge) {
        in_charge = choice;
        std::fill(misses.begin(), misses.end(), 0);
      }
      for (const double other : misses) {
        CHECK(misses[in_charge] <= other * (1 + kMargin) + kPatience * kChangeover);
      }
    }
  }
  CHECK(guard.switches() > 5);
}

TEST(a_sampled_shadow_misses_about_what_the_tier_does) {
  constexpr std::uint32_t kCapacity = 20000;
  std::mt19937_64 random(5);
  std::vector<RowId> accesses(600000);
  for (RowId& row : accesses) {  // popularity like 1/rank, up to 200,000 rows
    row = static_cast<RowId>(
        std::exp(static_cast<double>(random() >> 11) * 0x1p-53 * std::log(200000.0)));
  }
  Guard guard({.capacity = kCapacity, .policies = {"lru", "s3fifo"}, .half_life = 1e6});
  CHECK(std::abs(guard.sample_rate() - 2048.0 / kCapacity) < 1e-9);
  guard.observe(accesses);
  CHECK(static_cast<double>(guard.sampled()) < 0.3 * static_cast<double>(accesses.size()));
  const std::vector<double> ratios = guard.miss_ratios();
  std::vector<double> whole;
  for (const char* policy : {"lru", "s3fifo"}) {
    ShadowTier tier(policy, kCapacity, 1);
    for (const RowId row : accesses) tier.access(row);
    whole.push_back(static_cast<double>(tier.misses()) / static_cast<double>(tier.lookups()));
  }
  // Which of the few most popular rows are in the sample moves all estimates alike.
  CHECK(std::abs(ratios[0] / ratios[1] - whole[0] / whole[1]) < 0.1);
}

/// Rows never seen before, each fetched ahead or, in its stead, one that never comes.
void scan(Guard& guard, RowId first, RowId rows, bool foreseen) {
  for (RowId row = first; row < first + rows; ++row) {
    guard.ahead()->prefetch(foreseen ? row : row + 1'000'000'000);
    guard.observe({&row, 1});
  }
}

TEST(rows_are_fetched_ahead_while_that_pays_and_no_longer) {
  Guard guard({.capacity = 100, .policies = {"lru"}, .ahead = true});
  CHECK(!guard.fetches_ahead());
  scan(guard, 0, 2000, false);
  CHECK(!guard.fetches_ahead());
  scan(guard, 10000, 2000, true);
  CHECK(guard.fetches_ahead());
  // What is fetched in vain now costs nothing, and does not pay either.
  scan(guard, 20000, 4000, false);
  CHECK(!guard.fetches_ahead());
  CHECK_EQ(guard.ahead_switches(), 2);
  CHECK_EQ(guard.switches(), 0);
  CHECK_EQ(guard.choice(), Guard::kLearned);
  CHECK_EQ(guard.miss_ratios().size(), 3);
}

TEST(what_did_not_pay_within_a_window_is_not_judged_until_it_is_looked_at_again) {
  Guard guard({.capacity = 100, .policies = {"lru"}, .ahead = true, .scouting = 1000});
  scan(guard, 0, 1100, false);  // the first hundred fill the tier
  CHECK(!guard.looks_ahead());
  scan(guard, 10000, 7000, true);
  CHECK(!guard.looks_ahead() && !guard.fetches_ahead());
  scan(guard, 20000, 1000, true);
  CHECK(guard.looks_ahead());
  // What it missed less while nobody looked is not to its credit.
  CHECK_EQ(guard.miss_ratios()[2], guard.miss_ratios()[1]);
  CHECK(!guard.fetches_ahead());
  scan(guard, 30000, 900, true);
  CHECK(guard.fetches_ahead() && guard.looks_ahead());
  scan(guard, 40000, 20000, true);
  CHECK(guard.fetches_ahead() && guard.looks_ahead());
}

TEST(what_led_as_its_window_ended_is_not_begun) {
  // All in one call: who leads is put in charge at its end, when nobody looks any more.
  Guard guard({.capacity = 100, .policies = {"lru"}, .ahead = true, .scouting = 200});
  std::vector<RowId> rows;
  for (RowId row = 0; row < 310; ++row) rows.push_back(row);
  guard.observe(std::span(rows).first(120));  // the tier fills
  for (RowId row = 120; row < 215; ++row) guard.ahead()->prefetch(row);
  guard.observe(std::span(rows).subspan(120));
  CHECK(!guard.looks_ahead());
  CHECK(!guard.fetches_ahead());
}

TEST(without_need_no_shadow_fetches_ahead) {
  Guard guard({.capacity = 100, .policies = {"lru"}});
  CHECK(guard.ahead() == nullptr);
  CHECK(!guard.looks_ahead());
  guard.observe(loop_over(0, 110, 100));
  CHECK(!guard.fetches_ahead());
}

TEST(options_of_a_guard_that_make_no_sense_are_refused) {
  const auto refused = [](const GuardOptions& options) {
    try {
      Guard guard(options);
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  CHECK(!refused({.capacity = 10, .policies = {"lru"}}));
  CHECK(refused({.capacity = 10, .policies = {"lru"}, .scouting = 0}));
  CHECK(refused({.capacity = 0, .policies = {"lru"}}));
  CHECK(refused({.capacity = 10, .policies = {}}));
  CHECK(refused({.capacity = 10, .policies = {"no such"}}));
  CHECK(refused({.capacity = 10, .policies = {"lru"}, .shadow_rows = 0}));
  CHECK(refused({.capacity = 10, .policies = {"lru"}, .half_life = 0}));
  CHECK(refused({.capacity = 10, .policies = {"lru"}, .margin = -1}));
  CHECK(refused({.capacity = 10, .policies = {"lru"}, .patience = -1}));
  CHECK(refused({.capacity = 10, .policies = {"lru"}, .changeover = 0}));
}

}  // namespace
