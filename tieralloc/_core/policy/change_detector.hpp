// change_detector.hpp: finds when a difference, noisy from one observation to the next, has begun.
//
// A cumulative sum (CUSUM: Page, "Continuous inspection schemes", Biometrika 1954): differences are
// added up, never below 0. However far below 0 they were before, a change is found once it has cost
// the threshold. Not for concurrent use.
#pragma once

#include <algorithm>

namespace tieralloc {

class ChangeDetector {
 public:
  /// True once the sum has reached the threshold.
  bool add(double difference, double threshold) {
    sum_ = std::max(0.0, sum_ + difference);
    return sum_ >= threshold;
  }

  double sum() const { return sum_; }
  void reset() { sum_ = 0; }

 private:
  double sum_ = 0;
};

}  // namespace tieralloc
