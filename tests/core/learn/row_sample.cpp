// row_sample.cpp: that a sample has the share of rows it says, and the same ones always.
#include "learn/row_sample.hpp"

#include <cstdlib>

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(a_sample_has_about_as_large_a_share_of_rows_as_its_shadow_has_of_the_tier) {
  const RowSample sample(100'000, 2048, 7), same(100'000, 2048, 7), other(100'000, 2048, 8);
  int found = 0, differ = 0;
  for (RowId row = 0; row < 1'000'000; ++row) {
    found += sample.contains(row);
    differ += sample.contains(row) != other.contains(row);
    CHECK_EQ(sample.contains(row), same.contains(row));
  }
  CHECK(std::abs(found - 20'480) < 700);
  CHECK(differ > 35'000);
}

TEST(a_tier_that_is_no_larger_than_its_shadow_is_sampled_whole) {
  const RowSample sample(2048, 2048, 0);
  CHECK_EQ(sample.rate(), 1);
  for (RowId row = 0; row < 10'000; ++row) CHECK(sample.contains(row));
}

}  // namespace
