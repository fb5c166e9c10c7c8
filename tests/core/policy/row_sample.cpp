// row_sample.cpp: share of the sampled rows, and determinism.
#include "policy/row_sample.hpp"

#include <cstdlib>

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(row_sample_has_its_share_of_rows) {
  const RowSample sample(100'000, 2048, 7), same(100'000, 2048, 7), other(100'000, 2048, 8);
  int sampled = 0, differ = 0;
  for (RowId row = 0; row < 1'000'000; ++row) {
    sampled += sample.contains(row);
    differ += sample.contains(row) != other.contains(row);
    CHECK_EQ(sample.contains(row), same.contains(row));
  }
  CHECK(std::abs(sampled - 20'480) < 700);
  CHECK(differ > 35'000);
}

TEST(row_sample_of_a_small_tier_is_whole) {
  const RowSample sample(2048, 2048, 0);
  CHECK_EQ(sample.rate(), 1);
  for (RowId row = 0; row < 10'000; ++row) CHECK(sample.contains(row));
}

}  // namespace
