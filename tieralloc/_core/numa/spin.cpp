// spin.cpp: a loop of dependent additions and rotations, counted out by the clock.
#include "spin.hpp"

#include <time.h>

#include <algorithm>
#include <vector>

namespace tieralloc {
namespace {

/// Each step waits for the one before it, some processor cycles.
void run_steps(std::uint64_t steps) {
  std::uint64_t value = steps | 1;
  for (; steps > 0; --steps) {
    value = value * 3 + 1;
    __asm__ __volatile__("" : "+r"(value));  // or the compiler would do without the loop
  }
}

/// The median of many short runs: one that was interrupted does not count.
double calibrate() {
  constexpr std::uint64_t kSteps = 20'000;
  std::vector<double> rates;
  for (int i = 0; i < 101; ++i) {
    const std::uint64_t began = thread_ns();
    run_steps(kSteps);
    const std::uint64_t ended = thread_ns();
    rates.push_back(static_cast<double>(kSteps) /
                    static_cast<double>(std::max<std::uint64_t>(1, ended - began)));
  }
  std::nth_element(rates.begin(), rates.begin() + 50, rates.end());
  return rates[50];
}

}  // namespace

std::uint64_t thread_ns() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

double spin_steps_per_ns() {
  static const double rate = calibrate();
  return rate;
}

void spin(double ns) {
  if (ns <= 0) return;
  run_steps(static_cast<std::uint64_t>(ns * spin_steps_per_ns() + 0.5));
}

}  // namespace tieralloc
