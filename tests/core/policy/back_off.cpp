// back_off.cpp: waits double up to the maximum.
#include "policy/back_off.hpp"

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(back_off_doubles_up_to_its_bound) {
  BackOff back_off(3, 20);
  for (std::uint64_t wait : {3, 6, 12, 20, 20, 20}) CHECK_EQ(back_off.fail(), wait);
}

TEST(back_off_after_a_success_starts_over) {
  BackOff back_off(1, 64);
  for (int i = 0; i < 5; ++i) back_off.fail();
  back_off.succeed();
  CHECK_EQ(back_off.fail(), 1);
  CHECK_EQ(back_off.fail(), 2);
}

}  // namespace
