// probation.cpp: adaptation of the probationary segment's size to hits.
#include "policy/probation.hpp"

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(probation_target_rises_by_uses_of_old_rows) {
  Probation probation(4096);
  CHECK_EQ(probation.target(), 256);
  CHECK_EQ(probation.num_old(), 64);
  probation.record_old_use();
  CHECK_EQ(probation.target(), 260);
  for (int i = 0; i < 1000; ++i) probation.record_old_use();
  CHECK_EQ(probation.target(), 2048);
  CHECK_EQ(probation.num_old(), 512);
}

TEST(probation_target_falls_by_hits_of_low_rows) {
  Probation probation(4096);
  probation.record_low_hit(1);
  CHECK_EQ(probation.target(), 252);
  for (int i = 0; i < 4; ++i) probation.record_low_hit(0.25f);
  CHECK_EQ(probation.target(), 248);
  probation.record_low_hit(0);
  CHECK_EQ(probation.target(), 248);
  for (int i = 0; i < 1000; ++i) probation.record_low_hit(1);
  CHECK_EQ(probation.target(), 64);
}

TEST(probation_drained_has_no_target_until_a_prefetch) {
  Probation probation(4096);
  probation.record_prefetch();
  CHECK_EQ(probation.target(), 256);
  probation.drain();
  CHECK_EQ(probation.target(), 0);
  probation.record_prefetch();
  CHECK_EQ(probation.target(), 64);
}

TEST(probation_of_a_small_tier_has_a_target_of_one) {
  for (const std::uint32_t capacity : {1u, 2u, 3u}) {
    Probation probation(capacity);
    for (int i = 0; i < 9; ++i)
      i % 2 == 0 ? probation.record_old_use() : probation.record_low_hit(1);
    CHECK_EQ(probation.target(), 1);
    CHECK_EQ(probation.num_old(), 1);
  }
}

}  // namespace
