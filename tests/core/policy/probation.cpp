// probation.cpp: how the number of prefetched rows that may stay adapts to their outcomes.
#include "policy/probation.hpp"

#include "check.hpp"
#include "faults.hpp"

namespace {

using namespace tieralloc;

TEST(probation_target_rises_by_late_uses) {
  Probation probation(4096);
  CHECK_EQ(probation.target(), 256);
  CHECK_EQ(probation.young_target(), 192);
  CHECK(probation.note_use(1, true));
  CHECK_EQ(probation.target(), 260);
  CHECK(probation.note_use(1, false));
  CHECK_EQ(probation.target(), 260);
  for (RowId row = 0; row < 1000; ++row) CHECK(probation.note_use(row, true));
  CHECK_EQ(probation.target(), 2048);
  CHECK_EQ(probation.young_target(), 1536);
}

TEST(probation_target_falls_by_misses_of_recent_victims) {
  Probation probation(4096);
  CHECK(!probation.note_miss(7));
  probation.note_eviction(7, 256);
  CHECK(probation.note_miss(7));
  CHECK_EQ(probation.target(), 252);
  CHECK(!probation.note_miss(7));
  CHECK_EQ(probation.target(), 252);
  for (RowId row = 0; row < 1000; ++row) {
    probation.note_eviction(row, 256);
    CHECK(probation.note_miss(row));
  }
  CHECK_EQ(probation.target(), 64);
}

TEST(probation_target_ignores_misses_of_earlier_victims) {
  Probation probation(4096);
  for (RowId row = 0; row < 65; ++row) probation.note_eviction(row, 256);
  CHECK(probation.note_miss(0));  // displaced, but by more rows than the oldest quarter
  CHECK_EQ(probation.target(), 256);
  CHECK(probation.note_miss(1));
  CHECK_EQ(probation.target(), 252);
}

TEST(probation_finds_displaced_hits_for_the_segments_size) {
  for (const std::uint32_t size : {64u, 100u, 256u, 1000u}) {
    Probation probation(4096);
    for (RowId row = 0; row < 3000; ++row) probation.note_eviction(row, size);
    for (RowId row = 0; row < 3000; ++row) CHECK_EQ(probation.note_miss(row), row >= 3000 - size);
  }
}

TEST(probation_follows_a_segment_that_gets_smaller) {
  Probation probation(4096);
  for (RowId row = 0; row < 500; ++row) probation.note_eviction(row, 500);
  probation.note_eviction(500, 100);
  for (RowId row = 0; row <= 500; ++row) CHECK_EQ(probation.note_miss(row), row > 400);
}

TEST(probation_use_of_a_recent_victim_saves_nothing) {
  Probation probation(4096);
  for (RowId row = 0; row < 100; ++row) probation.note_eviction(row, 256);
  for (RowId row = 0; row < 100; ++row) {
    CHECK(!probation.note_use(row, true));
    CHECK(!probation.note_miss(row));
  }
  CHECK_EQ(probation.target(), 256);
  CHECK(probation.note_use(0, true));
}

TEST(probation_shrinks_until_late_uses) {
  Probation probation(4096);
  probation.shrink();
  CHECK_EQ(probation.target(), 64);
  CHECK(probation.note_use(1, true));
  CHECK_EQ(probation.target(), 68);
}

TEST(probation_takes_memory_only_at_construction) {
  for (const std::uint32_t capacity : {1u, 3u, 64u, 5000u}) {
    const std::size_t before = faults::allocated_bytes();
    Probation probation(capacity);
    const std::size_t taken = faults::allocated_bytes() - before;
    CHECK(taken <= Probation::bytes(capacity));
    for (RowId row = 0; row < 20000; ++row) {
      probation.note_eviction(row, 1'000'000);
      if (row % 7 == 0) probation.note_use(row, true);
      if (row % 5 == 0) probation.note_miss(row / 2);
      CHECK(probation.target() >= 1 && probation.target() <= std::max(capacity / 2, 1u));
    }
    CHECK_EQ(faults::allocated_bytes() - before, taken);
    std::uint32_t found = 0;
    for (RowId row = 0; row < 20000; ++row) found += probation.note_miss(row) ? 1 : 0;
    CHECK(found <= std::max(capacity / 2, 1u) + std::max(capacity / 8, 1u));
  }
}

}  // namespace
