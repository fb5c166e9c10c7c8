// fast_log.cpp: approximations against <cmath>.
#include "policy/fast_log.hpp"

#include <cmath>

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(fast_log_errors_are_within_the_stated_bounds) {
  for (double power = -30; power < 60; power += 0.001) {
    const auto x = static_cast<float>(std::exp2(power));
    CHECK(std::abs(fast_log2(x) - std::log2(x)) < 1e-3);
  }
  for (float x = -59.99f; x <= 60; x += 0.001f) {
    CHECK(std::abs(fast_exp2(x) / std::exp2(x) - 1) < 2e-4);
  }
  CHECK_EQ(fast_exp2(0.0f), 1.0f);
  CHECK(fast_exp2(-1e9f) < 1e-17f);
}

}  // namespace
