// spin.cpp: a loop of dependent multiplications, calibrated against the clock.
#include "base/numa/spin.hpp"

#include <time.h>

#include <algorithm>
#include <array>

namespace tieralloc {
namespace {

/// Each step depends on the previous one: some processor cycles.
[[gnu::noinline]] void run_steps(std::uint64_t steps) {
  std::uint64_t value = steps | 1;
  for (; steps > 0; --steps) {
    value = value * 3 + 1;
    __asm__ __volatile__("" : "+r"(value));  // keeps the loop
  }
}

/// Nanoseconds of one isolated spin of `steps` steps.
double spin_ns(std::uint64_t steps) {
  constexpr std::size_t kRuns = 41;
  constexpr int kSpins = 200;
  std::array<double, kRuns> took{};
  for (double& ns : took) {
    const std::uint64_t began = thread_ns();
    for (int i = 0; i < kSpins; ++i) {
      serialise();
      run_steps(steps);
    }
    serialise();
    ns = static_cast<double>(thread_ns() - began) / kSpins;
  }
  // The median ignores interrupted runs.
  std::nth_element(took.begin(), took.begin() + kRuns / 2, took.end());
  return took[kRuns / 2];
}

struct Calibration {
  double steps_per_ns = 0;
  double call_ns = 0;  ///< of a spin without steps, with its branch misprediction
};

Calibration calibrate() {
  constexpr std::uint64_t kFew = 64;
  constexpr std::uint64_t kMany = 512;
  const double few = spin_ns(kFew);
  const double many = spin_ns(kMany);
  const double rate = static_cast<double>(kMany - kFew) / std::max(many - few, 1.0);
  return {rate, std::max(0.0, few - kFew / rate)};
}

const Calibration& calibration() {
  static const Calibration once = calibrate();
  return once;
}

}  // namespace

std::uint64_t thread_ns() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

double spin_steps_per_ns() {
  return calibration().steps_per_ns;
}

void spin(double ns) {
  const Calibration& known = calibration();
  const double steps = (ns - known.call_ns) * known.steps_per_ns;
  if (steps > 0) run_steps(static_cast<std::uint64_t>(steps + 0.5));
}

}  // namespace tieralloc
