// promotion.cpp: decisions of the promotion policy on synthetic durations.
#include "slow_tier/promotion.hpp"

#include "check.hpp"

namespace {

using namespace tieralloc;

constexpr LineCosts kFar{.slow_ns = 60, .fast_ns = 20};
constexpr std::uint64_t kCapacity = 1000;

struct Served {
  std::uint64_t with_copies = 0, in_place = 0;
  double share() const {
    return static_cast<double>(with_copies) / static_cast<double>(with_copies + in_place);
  }
};

/// Serves calls of 256 rows that take so many ns a row with copies and without.
Served serve(PromotionPolicy& promotion, std::uint64_t rows, std::uint64_t with_ns,
             std::uint64_t without_ns) {
  Served served;
  for (std::uint64_t done = 0; done < rows; done += 256) {
    const bool admits = promotion.promotes();
    (admits ? served.with_copies : served.in_place) += 256;
    promotion.record_call(admits, 256, 256 * (admits ? with_ns : without_ns));
  }
  return served;
}

TEST(promotion_keeps_the_faster_mode) {
  PromotionPolicy promotion(PromotionRule::automatic, kFar);
  promotion.restart(kCapacity);
  CHECK(promotion.promotes());
  const Served faster = serve(promotion, 10'000'000, 50, 70);
  CHECK(faster.share() > 0.94);  // three trials, half of each without
  CHECK(promotion.stats().trials > 1);
  CHECK_EQ(promotion.stats().with_copies_ns, 50);
  CHECK_EQ(promotion.stats().in_place_ns, 70);
  const Served slower = serve(promotion, 100'000'000, 90, 70);
  CHECK(!promotion.stats().promotes || slower.share() < 0.5);
}

TEST(promotion_without_benefit_is_rarely_tried) {
  PromotionPolicy promotion(PromotionRule::automatic, kFar);
  promotion.restart(kCapacity);
  serve(promotion, 1'000'000, 90, 70);
  const Served later = serve(promotion, 50'000'000, 90, 70);
  CHECK(later.share() < 0.1);
  CHECK(later.with_copies > 0);  // it tries again
}

TEST(promotion_follows_a_changing_workload) {
  PromotionPolicy promotion(PromotionRule::automatic, kFar);
  promotion.restart(kCapacity);
  serve(promotion, 20'000'000, 90, 70);
  serve(promotion, 80'000'000, 50, 70);
  CHECK(serve(promotion, 20'000'000, 50, 70).share() > 0.9);
}

TEST(promotion_is_not_tried_for_equal_costs) {
  PromotionPolicy promotion(PromotionRule::automatic, {.slow_ns = 21, .fast_ns = 20});
  promotion.restart(kCapacity);
  CHECK_EQ(serve(promotion, 10'000'000, 10, 70).with_copies, 0);
}

TEST(promotion_rules_override_measurements) {
  PromotionPolicy always(PromotionRule::always, {.slow_ns = 20, .fast_ns = 20});
  always.restart(kCapacity);
  CHECK_EQ(serve(always, 10'000'000, 90, 70).in_place, 0);
  CHECK_EQ(always.min_accesses(1), 1);
  PromotionPolicy never(PromotionRule::never, kFar);
  never.restart(kCapacity);
  CHECK_EQ(serve(never, 10'000'000, 10, 70).with_copies, 0);
  for (const auto rule : {PromotionRule::always, PromotionRule::automatic}) {
    PromotionPolicy nowhere(rule, kFar);  // to copy to
    nowhere.restart(0);
    CHECK(!nowhere.promotes());
  }
}

TEST(row_is_promoted_once_it_cost_as_much_as_a_copy) {
  PromotionPolicy promotion(PromotionRule::automatic, kFar);  // 40 ns a line beyond a hit
  promotion.restart(kCapacity);
  promotion.record_copies(10, 4000);
  CHECK_EQ(promotion.min_accesses(1), 10);
  CHECK_EQ(promotion.min_accesses(4), 3);  // 160 ns, the third time makes 480 of 400
  CHECK_EQ(promotion.min_accesses(16), 1);
  // One copy that was interrupted changes little.
  promotion.record_copies(1, 1'000'000'000);
  CHECK(promotion.min_accesses(4) <= 4);
}

}  // namespace
