// costs.cpp: medians of timed gathers.
#include "slow_tier/memory/costs.hpp"

#include <algorithm>
#include <optional>

#include "base/error.hpp"
#include "base/numa/spin.hpp"
#include "slow_tier/memory/measure.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kSample = std::size_t{4} << 20;
constexpr std::size_t kRowBytes = 256;
constexpr std::size_t kLines = kRowBytes / kCacheLine;
constexpr std::size_t kRows = 2048;
constexpr int kRepeats = 9;

Region fast_sample(const NodeRequest& request) {
  NodeScope scope(request);
  return Region(kSample, "sample");
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + kRepeats / 2, values.end());
  return values[kRepeats / 2];
}

/// The emulated extra latency per row, for as many rows as a lookup reads at a time.
double extra_row_ns(const SlowPool& pool) {
  constexpr std::size_t kLookupRows = 256;
  const std::uint64_t began = thread_ns();
  pool.emulate_latency(kLookupRows * kLines);
  return static_cast<double>(thread_ns() - began) / kLookupRows;
}

}  // namespace

LineCosts measure_line_costs(const SlowPool& pool, const NodeRequest& fast) {
  std::optional<Region> near, far;
  try {
    near = fast_sample(fast);
    far = pool.sample(kSample);
  } catch (const MemoryShortage&) {
    return {};
  }
  std::vector<double> near_ns, far_ns;
  for (int i = 0; i < kRepeats; ++i) {
    const auto seed = static_cast<std::uint64_t>(i);
    near_ns.push_back(gather_row_ns(near->data(), kSample, kRowBytes, kRows, seed, true));
    far_ns.push_back(gather_row_ns(far->data(), kSample, kRowBytes, kRows, seed, true) +
                     extra_row_ns(pool));
  }
  return {.slow_ns = median(far_ns) / kLines, .fast_ns = median(near_ns) / kLines};
}

}  // namespace tieralloc
