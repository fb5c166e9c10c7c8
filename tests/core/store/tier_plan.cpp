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
        least += by_bytes ? tier_bytes({stride, stride, rows, 1, 9}, policy).total() : 1;
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

TEST(small_tables_are_resident_in_order_of_creation) {
  constexpr std::uint64_t kBudget = 64 << 20;
  const auto plan = [](const std::vector<TableLayout>& tables) {
    return plan_fast(tables, {kBudget, 0}, "lru");
  };
  const std::uint64_t max_rows = (1 << 20) / 64;
  std::vector<TableLayout> tables{table(max_rows, 64), table(max_rows + 64, 64), table(10, 128)};
  CHECK(plan(tables).is_resident == std::vector<bool>({true, false, true}));
  CHECK_EQ(plan(tables).tiers.size(), 1);
  CHECK(plan(tables).bytes <= kBudget);
  CHECK(plan_fast(tables, {0, 1000}, "lru").is_resident == std::vector<bool>(3, false));
  for (int i = 0; i < 20; ++i) tables.push_back(table(max_rows, 64));
  std::vector<bool> expected(23, true);  // 1/64 each, and a page: 16 do not fit into 1/4
  expected[1] = false;
  for (std::size_t i = 17; i < 23; ++i) expected[i] = false;
  CHECK(plan(tables).is_resident == expected);
  tables[1].residency = Residency::always;
  tables[2].residency = Residency::never;
  expected[1] = true;
  expected[2] = false;
  expected[16] = false;
  CHECK(plan(tables).is_resident == expected);
  tables[1].rows *= 100;  // more than the budget
  CHECK(!plan(tables).is_resident[1]);
}

TEST(plans_of_resident_tables_and_tiers_fit_the_budget) {
  std::mt19937_64 random(2);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<TableLayout> tables;
    for (std::uint64_t i = 0; i < 1 + random() % 8; ++i) {
      tables.push_back(table(1 + random() % (std::uint64_t{1} << random() % 16),
                             static_cast<std::uint32_t>(64 * (1 + random() % 4))));
      tables.back().residency = static_cast<Residency>(random() % 3);
    }
    const std::uint64_t budget = 1 + random() % (std::uint64_t{1} << (14 + random() % 12));
    try {
      const FastPlan plan = plan_fast(tables, {budget, 0}, "s3fifo");
      CHECK(plan.bytes <= budget);
      std::uint64_t rows = 0;
      for (const TierPlan& tier : plan.tiers) rows += tier.rows;
      for (std::size_t i = 0; i < tables.size(); ++i) {
        if (plan.is_resident[i]) rows += tables[i].rows;
        rows -= tables[i].rows;
      }
      CHECK_EQ(rows, 0);
    } catch (const std::invalid_argument& error) {
      CHECK(std::string(error.what()).find("fast_bytes: too small") == 0);
    }
  }
}

TEST(unsuitable_budget_is_refused) {
  CHECK_THROWS(std::invalid_argument, check_budget({0, 0}, "lru"),
               "fast_bytes, fast_rows: expected one");
  CHECK_THROWS(std::invalid_argument, check_budget({1, 1}, "lru"),
               "fast_bytes, fast_rows: expected one");
  CHECK_THROWS(std::invalid_argument, check_budget({100, 0}, "lru"),
               "fast_bytes: too small for a row");
  CHECK_THROWS(MemoryShortage, check_budget({std::uint64_t{1} << 60, 0}, "lru"),
               "bytes that the machine has available");
  CHECK_THROWS(std::invalid_argument, plan_tiers({table(100, 64), table(100, 128)}, {0, 1}, "lru"),
               "fast_rows: too small for the tables with rows of");
  CHECK_THROWS(std::invalid_argument, plan_tiers({table(1u << 30, 1u << 20)}, {1 << 20, 0}, "lru"),
               "too small for the tables with rows of 1048576 bytes");
}

}  // namespace
