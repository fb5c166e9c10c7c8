// probation.cpp: how the number of prefetched rows that may stay adapts to hits.
#include "policy/probation.hpp"

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(probation_target_rises_by_uses_of_old_rows) {
  Probation probation(4096);
  CHECK_EQ(probation.target(), 256);
  CHECK_EQ(probation.old(), 64);
  probation.note_old_use();
  CHECK_EQ(probation.target(), 260);
  for (int i = 0; i < 1000; ++i) probation.note_old_use();
  CHECK_EQ(probation.target(), 2048);
  CHECK_EQ(probation.old(), 512);
}

TEST(probation_target_falls_by_hits_of_low_rows) {
  Probation probation(4096);
  probation.note_low_hit(1);
  CHECK_EQ(probation.target(), 252);
  for (int i = 0; i < 4; ++i) probation.note_low_hit(0.25f);
  CHECK_EQ(probation.target(), 248);
  probation.note_low_hit(0);
  CHECK_EQ(probation.target(), 248);
  for (int i = 0; i < 1000; ++i) probation.note_low_hit(1);
  CHECK_EQ(probation.target(), 64);
}

TEST(probation_lets_none_stay_until_another_one_comes) {
  Probation probation(4096);
  probation.note_prefetch();
  CHECK_EQ(probation.target(), 256);
  probation.empty();
  CHECK_EQ(probation.target(), 0);
  probation.note_prefetch();
  CHECK_EQ(probation.target(), 64);
}

TEST(probation_of_a_small_tier_lets_one_stay) {
  for (const std::uint32_t capacity : {1u, 2u, 3u}) {
    Probation probation(capacity);
    for (int i = 0; i < 9; ++i) i % 2 == 0 ? probation.note_old_use() : probation.note_low_hit(1);
    CHECK_EQ(probation.target(), 1);
    CHECK_EQ(probation.old(), 1);
  }
}

}  // namespace
