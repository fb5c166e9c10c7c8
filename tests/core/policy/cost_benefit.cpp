// cost_benefit.cpp: windows that end in a pause, and its length.
#include "policy/cost_benefit.hpp"

#include "check.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint64_t kWindow = CostBenefit::kWindow;

/// Consecutive windows with the given seconds of waiting and CPU.
struct Windows {
  CostBenefit cost_benefit;
  CostBenefit::Usage now;

  std::uint64_t end_window(double waited, double cpu, double avoided) {
    now.lookups += kWindow;
    now.waited += waited;
    now.cpu += cpu;
    CHECK(cost_benefit.is_due(now));
    return cost_benefit.end_window(now, avoided);
  }
};

TEST(cost_benefit_is_due_after_a_window) {
  CostBenefit cost_benefit;
  cost_benefit.begin({.lookups = 5});
  CHECK(!cost_benefit.is_due({.lookups = 4 + kWindow}));
  CHECK(cost_benefit.is_due({.lookups = 5 + kWindow}));
}

TEST(cost_benefit_ignores_the_warm_up_window) {
  Windows windows;
  windows.cost_benefit.begin({});
  CHECK_EQ(windows.end_window(0, 100, 0), 0);
  CHECK(windows.end_window(0, 100, 0) > 0);
  windows.cost_benefit.begin(windows.now);
  CHECK_EQ(windows.end_window(0, 100, 0), 0);
  CHECK_EQ(windows.cost_benefit.pauses(), 1);
}

TEST(cost_benefit_compares_savings_with_cpu_time) {
  Windows windows;
  windows.end_window(0, 0, 0);
  CHECK_EQ(windows.end_window(10, 4, 0.11), 0);  // 1.1 s of waiting, 1 s of serving
  CHECK_EQ(windows.cost_benefit.saved(), 1.1);
  CHECK_EQ(windows.cost_benefit.spent(), 4);
  CHECK(windows.end_window(10, 4, 0.09) > 0);
  CHECK(windows.end_window(10, 4, -1) > 0);
  CHECK_EQ(windows.cost_benefit.saved(), 0);
}

TEST(cost_benefit_pauses_double_until_a_gain) {
  Windows windows;
  windows.end_window(0, 0, 0);
  for (std::uint64_t wait : {16, 32, 64, 128, 256, 512, 1024, 2048, 2048}) {
    CHECK_EQ(windows.end_window(0, 1, 0), wait * kWindow);
  }
  CHECK_EQ(windows.end_window(10, 1, 1), 0);
  CHECK_EQ(windows.end_window(0, 1, 0), 16 * kWindow);
  CHECK_EQ(windows.cost_benefit.pauses(), 10);
}

TEST(cost_benefit_after_reset_counters_skips_a_window) {
  Windows windows;
  windows.end_window(5, 0, 0);
  windows.now = {.lookups = 10, .waited = 0, .cpu = 7};
  CHECK(windows.cost_benefit.is_due(windows.now));
  CHECK_EQ(windows.cost_benefit.end_window(windows.now, 0), 0);
  CHECK(!windows.cost_benefit.is_due(windows.now));
  CHECK_EQ(windows.end_window(0, 1, 0), 16 * kWindow);
}

}  // namespace
