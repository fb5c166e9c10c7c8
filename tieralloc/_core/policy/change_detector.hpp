// change_detector.hpp: CUSUM change detector (Page, "Continuous inspection schemes", Biometrika
// 1954).
//
//   sum = max(0, sum + difference); report a change if sum >= threshold
// Because the sum never falls below 0, a change is reported once it adds up to the threshold,
// whatever the differences were before. Not for concurrent use.
#pragma once

#include <algorithm>

namespace tieralloc {

class ChangeDetector {
 public:
  /// Adds a difference; true if the sum has reached the threshold.
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
