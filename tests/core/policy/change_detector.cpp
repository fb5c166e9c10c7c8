// change_detector.cpp: when the cumulative sum reaches the threshold.
#include "policy/change_detector.hpp"

#include <algorithm>
#include <vector>

#include "base/split_mix.hpp"
#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(change_detector_sum_never_falls_below_zero) {
  ChangeDetector detector;
  for (int i = 0; i < 1000; ++i) CHECK(!detector.add(-1, 3));
  CHECK_EQ(detector.sum(), 0);
  CHECK(!detector.add(1, 3));
  CHECK(!detector.add(1, 3));
  CHECK(detector.add(1, 3));
  detector.reset();
  CHECK_EQ(detector.sum(), 0);
}

TEST(change_detector_sum_is_the_max_suffix_sum) {
  SplitMix64 random(1);
  std::vector<double> differences;
  ChangeDetector detector;
  for (int i = 0; i < 500; ++i) {
    differences.push_back(static_cast<double>(random.below(21)) - 11);
    const bool is_found = detector.add(differences.back(), 30);
    double worst = 0, suffix = 0;
    for (std::size_t at = differences.size(); at-- > 0;) {
      suffix += differences[at];
      worst = std::max(worst, suffix);
    }
    CHECK_EQ(detector.sum(), worst);
    CHECK_EQ(is_found, worst >= 30);
  }
}

}  // namespace
