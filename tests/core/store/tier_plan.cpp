// tier_plan.cpp: division of the budget among row sizes.
#include "store/tier_plan.hpp"

#include <map>
#include <random>

#include "base/error.hpp"
#include "check.hpp"

namespace {

using namespace tieralloc;

TableLayout table(std::uint64_t rows, std::uint32_t stride) {
  return {.name = "t", .rows = rows, .dim = stride / 4, .dtype = DType::float32, .stride = stride};
}

TEST(plans_fit_the_budget_with_a_row_of_each_size) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<TableLayout> tables;
    std::map<std::uint32_t, std::uint64_t> rows_of;
    for (std::uint64_t i = 0; i < 1 + random() % 6; ++i) {
      const std::uint64_t rows = 1 + random() % (std::uint64_t{1} << random() % 20);
      tables.push_back(table(rows, static_cast<std::uint32_t>(64 * (1 + random() % 4))));
      rows_of[tables.back().stride] += rows;
    }
    const std::string policy = eviction_policy_names()[random() % 6];
    const bool by_bytes = random() % 2 == 0;
    const std::uint64_t budget = 1 + random() % (std::uint64_t{1} << (6 + random() % 24));
    std::vector<TierPlan> plans;
    try {
      plans = plan_tiers(tables, by_bytes ? FastBudget{budget, 0} : FastBudget{0, budget}, policy);
    } catch (const std::invalid_argument&) {
      std::uint64_t least = 0;
      for (const auto& [stride, rows] : rows_of) {
        least += by_bytes ? tier_bytes({stride, rows, 1, 9}, policy).total() : 1;
      }
      CHECK(budget < least);
      continue;
    }
    CHECK_EQ(plans.size(), rows_of.size());
    std::uint64_t taken = 0;
    auto expected = rows_of.begin();
    bool all_whole = true;
    for (const TierPlan& plan : plans) {
      CHECK_EQ(plan.stride, expected->first);
      CHECK_EQ(plan.rows, expected->second);
      CHECK(plan.capacity >= 1 && plan.capacity <= plan.rows);
      CHECK(plan.slots > plan.capacity);
      all_whole = all_whole && plan.capacity == plan.rows;
      taken += by_bytes ? tier_bytes(plan, policy).total() : plan.capacity;
      ++expected;
    }
    CHECK(taken <= budget);
    if (!by_bytes && !all_whole) CHECK_EQ(taken, budget);
  }
}

TEST(one_size_gets_the_requested_rows) {
  for (std::uint64_t rows : {1u, 7u, 999u, 1000u}) {
    CHECK_EQ(plan_tiers({table(1000, 64)}, {0, rows}, "lru")[0].capacity, rows);
  }
  CHECK_EQ(plan_tiers({table(1000, 64)}, {0, 5000}, "lru")[0].capacity, 1000);
  CHECK(plan_tiers({}, {0, 10}, "lru").empty());
}

TEST(more_bytes_never_give_fewer_rows) {
  Slot before = 0;
  for (std::uint64_t bytes = 20000; bytes < 3000000; bytes += 7919) {
    const Slot capacity = plan_tiers({table(1000000, 128)}, {bytes, 0}, "s3fifo")[0].capacity;
    CHECK(capacity >= before);
    before = capacity;
  }
}

TEST(unsuitable_budget_is_refused) {
  CHECK_THROWS(std::invalid_argument, check_budget({0, 0}, "lru"),
               "either fast_bytes or fast_rows");
  CHECK_THROWS(std::invalid_argument, check_budget({1, 1}, "lru"),
               "either fast_bytes or fast_rows");
  CHECK_THROWS(std::invalid_argument, check_budget({100, 0}, "lru"), "fast_bytes is 100");
  CHECK_THROWS(MemoryShortage, check_budget({std::uint64_t{1} << 60, 0}, "lru"), "bytes available");
  CHECK_THROWS(std::invalid_argument, plan_tiers({table(100, 64), table(100, 128)}, {0, 1}, "lru"),
               "fast_rows is 1, which leaves 0 rows for the tables with rows of");
  CHECK_THROWS(std::invalid_argument, plan_tiers({table(1u << 30, 1u << 20)}, {1 << 20, 0}, "lru"),
               "one row of them, with its index and spares, takes");
}

}  // namespace
