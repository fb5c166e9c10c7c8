// sampler.cpp: measurements by a thread on one processor of memory on one node.
#include "slow_tier/memory/sampler.hpp"

#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/memory.hpp"
#include "base/numa/cpus.hpp"
#include "base/numa/nodes.hpp"
#include "base/numa/spin.hpp"
#include "slow_tier/memory/measure.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kHops = 50'000;
constexpr std::size_t kGatheredRows = 50'000;

/// Runs `body` in a new thread on one processor. Rethrows its exception.
void run_on(int cpu, const std::function<void()>& body) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      if (!pin_this_thread({cpu})) {
        throw std::invalid_argument("no thread can be bound to processor " + std::to_string(cpu));
      }
      body();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

MemorySamples sample_memory(const MemoryQuestion& question) {
  (void)usable_node(question.node);
  check_cpus(question.cpus);
  MemorySamples samples;
  NodeScope scope({.node = question.node});
  const Region memory(question.bytes, "memory to be measured");
  samples.placement = scope.placement();
  samples.huge_page_bytes = huge_page_bytes(memory.data(), memory.size());
  samples.gather_ns.resize(question.row_bytes.size());
  run_on(question.cpus.front(), [&] {
    // Gathers first: the chase writes addresses, which are slow to add as floats.
    for (int repeat = 0; repeat < question.repeats; ++repeat) {
      for (std::size_t i = 0; i < question.row_bytes.size(); ++i) {
        const auto seed = static_cast<std::uint64_t>(repeat);
        samples.gather_ns[i].push_back(gather_row_ns(
            memory.data(), memory.size(), question.row_bytes[i], kGatheredRows, seed, false));
      }
      samples.bytes_per_second.push_back(
          stream_bytes_per_second(memory.data(), memory.size(), question.cpus, 1));
    }
    PointerChase chase(memory.data(), memory.size(), 1);
    for (int repeat = 0; repeat < question.repeats; ++repeat) {
      samples.load_ns.push_back(chase.run(kHops));
    }
  });
  return samples;
}

ChaseSamples sample_emulation(double extra_ns, std::uint64_t bytes, int repeats) {
  const Region memory(bytes, "memory to be measured");
  PointerChase chase(memory.data(), memory.size(), 1);
  chase.run(kHops);
  ChaseSamples samples;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    samples.plain_ns.push_back(chase.run(kHops, [] {}));
    samples.extra_ns.push_back(chase.run(kHops, [&] { spin(extra_ns); }));
  }
  return samples;
}

}  // namespace tieralloc
