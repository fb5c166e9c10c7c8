// access_counts.cpp: counts against exact ones, and their decay.
#include "slow_tier/access_counts.hpp"

#include <algorithm>
#include <random>
#include <unordered_map>

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(access_counts_are_about_exact) {
  AccessCounts counts(100'000);  // enough cells that none is halved twice in so few accesses
  std::mt19937 random(1);
  std::unordered_map<RowId, unsigned> exact;
  std::size_t wrong = 0;
  for (int i = 0; i < 20'000; ++i) {
    const RowId row = random() % 5000;
    const unsigned counted = counts.add(row);
    const unsigned known = std::min(++exact[row], AccessCounts::kMaxCount);
    CHECK(2 * counted + 1 >= known);
    wrong += counted != known;
  }
  CHECK(wrong < 2000);
}

TEST(access_counts_decay) {
  AccessCounts counts(1000);
  unsigned last = 0;
  for (int i = 0; i < 8; ++i) last = counts.add(7);
  CHECK_EQ(last, 8);
  for (RowId row = 100; row < 100'100; ++row) counts.add(row);
  CHECK(counts.add(7) < 8);
}

}  // namespace
