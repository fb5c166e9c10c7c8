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
Served serve(PromotionPolicy& admission, std::uint64_t rows, std::uint64_t with_ns,
             std::uint64_t without_ns) {
  Served served;
  for (std::uint64_t done = 0; done < rows; done += 256) {
    const bool admits = admission.promotes();
    (admits ? served.with_copies : served.in_place) += 256;
    admission.record_call(admits, 256, 256 * (admits ? with_ns : without_ns));
  }
  return served;
}

TEST(promotion_keeps_the_faster_mode) {
  PromotionPolicy admission(PromotionRule::automatic, kFar);
  admission.restart(kCapacity);
  CHECK(admission.promotes());
  const Served faster = serve(admission, 10'000'000, 50, 70);
  CHECK(faster.share() > 0.94);  // three trials, half of each without
  CHECK(admission.stats().trials > 1);
  CHECK_EQ(admission.stats().with_copies_ns, 50);
  CHECK_EQ(admission.stats().in_place_ns, 70);
  const Served slower = serve(admission, 100'000'000, 90, 70);
  CHECK(!admission.stats().promotes || slower.share() < 0.5);
}

TEST(promotion_without_benefit_is_rarely_tried) {
  PromotionPolicy admission(PromotionRule::automatic, kFar);
  admission.restart(kCapacity);
  serve(admission, 1'000'000, 90, 70);
  const Served later = serve(admission, 50'000'000, 90, 70);
  CHECK(later.share() < 0.1);
  CHECK(later.with_copies > 0);  // it tries again
}

TEST(promotion_follows_a_changing_workload) {
  PromotionPolicy admission(PromotionRule::automatic, kFar);
  admission.restart(kCapacity);
  serve(admission, 20'000'000, 90, 70);
  serve(admission, 80'000'000, 50, 70);
  CHECK(serve(admission, 20'000'000, 50, 70).share() > 0.9);
}

TEST(promotion_is_not_tried_for_equal_costs) {
  PromotionPolicy admission(PromotionRule::automatic, {.slow_ns = 21, .fast_ns = 20});
  admission.restart(kCapacity);
  CHECK_EQ(serve(admission, 10'000'000, 10, 70).with_copies, 0);
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
  PromotionPolicy admission(PromotionRule::automatic, kFar);  // 40 ns a line beyond a hit
  admission.restart(kCapacity);
  admission.record_copies(10, 4000);
  CHECK_EQ(admission.min_accesses(1), 10);
  CHECK_EQ(admission.min_accesses(4), 3);  // 160 ns, the third time makes 480 of 400
  CHECK_EQ(admission.min_accesses(16), 1);
  // One copy that was interrupted changes little.
  admission.record_copies(1, 1'000'000'000);
  CHECK(admission.min_accesses(4) <= 4);
}

}  // namespace
