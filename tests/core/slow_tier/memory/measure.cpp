// measure.cpp: the timed loops do their work; no assertion on durations.
#include "slow_tier/memory/measure.hpp"

#include <cstring>
#include <set>

#include "base/memory.hpp"
#include "base/numa/cpus.hpp"
#include "base/numa/spin.hpp"
#include "check.hpp"
#include "slow_tier/memory/costs.hpp"
#include "slow_tier/memory/memory_pool.hpp"

namespace {

using namespace tieralloc;

TEST(chase_visits_every_cache_line_once) {
  for (std::size_t lines : {1, 2, 7, 1000}) {
    Region memory(lines * kCacheLine, "test");
    PointerChase chase(memory.data(), lines * kCacheLine, lines);
    std::set<const void*> seen;
    const void* at = memory.data();
    for (std::size_t i = 0; i < lines; ++i) {
      CHECK(at >= memory.data() && at < memory.data() + lines * kCacheLine);
      CHECK(seen.insert(at).second);
      std::memcpy(&at, at, sizeof at);
    }
    CHECK(at == memory.data());
  }
}

TEST(chase_calls_between_its_hops) {
  Region memory(64 * kCacheLine, "test");
  PointerChase chase(memory.data(), 64 * kCacheLine, 1);
  int calls = 0;
  CHECK(chase.run(100, [&] { ++calls; }) > 0);
  CHECK_EQ(calls, 100);
  CHECK(chase.run(100) >= 0);
}

TEST(gathers_and_streams_take_time) {
  constexpr std::size_t kBytes = std::size_t{1} << 20;
  const Region memory(kBytes, "test");
  for (const std::size_t row : {64, 256, 1024}) {
    for (const bool flush : {false, true}) {
      CHECK(gather_row_ns(memory.data(), kBytes, row, 500, 1, flush) > 0);
    }
  }
  CHECK(stream_bytes_per_second(memory.data(), kBytes, current_cpus(), 3) > 0);
}

TEST(spin_takes_its_time) {
  spin(0);
  spin(-1);
  CHECK(spin_steps_per_ns() > 0);
  spin(1000);
}

TEST(emulated_latency_is_part_of_line_costs) {
  const MemoryPool emulated({.request = {}, .extra_ns = 20'000});
  const LineCosts costs = measure_line_costs(emulated, NodeRequest{});
  CHECK(costs.fast_ns > 0);
  CHECK(costs.slow_ns > costs.fast_ns);
}

}  // namespace
