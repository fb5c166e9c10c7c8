// measure.cpp: timed loops.
#include "slow_tier/memory/measure.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <numeric>
#include <thread>

#include "base/counters.hpp"
#include "base/numa/cpus.hpp"
#include "base/numa/spin.hpp"
#include "base/split_mix.hpp"
#include "base/types.hpp"
#include "kernels/kernels.hpp"

namespace tieralloc {
namespace {

void flush_line(const std::byte* line) {
#if defined(__x86_64__)
  __builtin_ia32_clflush(line);
#elif defined(__aarch64__)
  __asm__ __volatile__("dc civac, %0" ::"r"(line) : "memory");
#else
  (void)line;
#endif
}

void flush_all(const std::byte* data, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += kCacheLine) flush_line(data + at);
#if defined(__x86_64__)
  __builtin_ia32_mfence();
#elif defined(__aarch64__)
  __asm__ __volatile__("dsb ish" ::: "memory");
#endif
}

/// Reads all of the memory; the compiler can neither drop nor replace it.
std::uint64_t sum_words(const std::byte* data, std::size_t bytes) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(data);
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i + 8 <= bytes / sizeof(std::uint64_t); i += 8) {
    for (std::size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
  }
  return std::accumulate(std::begin(sums), std::end(sums), std::uint64_t{0});
}

void use(std::uint64_t value) {
  __asm__ __volatile__("" ::"r"(value));
}

}  // namespace

PointerChase::PointerChase(std::byte* data, std::size_t bytes, std::uint64_t seed) : at_(data) {
  // Sattolo's shuffle: one cycle through all lines.
  std::vector<std::uint32_t> next(bytes / kCacheLine);
  std::iota(next.begin(), next.end(), 0u);
  SplitMix64 random(seed);
  for (std::size_t i = next.size(); i-- > 1;) {
    std::swap(next[i], next[random.below(static_cast<std::uint32_t>(i))]);
  }
  for (std::size_t i = 0; i < next.size(); ++i) {
    *reinterpret_cast<void**>(data + i * kCacheLine) = data + next[i] * kCacheLine;
  }
}

double PointerChase::run(std::size_t hops, const std::function<void()>& between) {
  void* at = at_;
  const std::uint64_t began = thread_ns();
  if (between == nullptr) {
    for (std::size_t i = 0; i < hops; ++i) at = *static_cast<void* volatile*>(at);
  } else {
    for (std::size_t i = 0; i < hops; ++i) {
      at = *static_cast<void* volatile*>(at);
      serialise();
      between();
      serialise();
    }
  }
  use(reinterpret_cast<std::uintptr_t>(at));
  const std::uint64_t ended = thread_ns();
  at_ = at;
  return static_cast<double>(ended - began) / static_cast<double>(std::max<std::size_t>(1, hops));
}

double gather_row_ns(const std::byte* data, std::size_t bytes, std::size_t row_bytes,
                     std::size_t rows, std::uint64_t seed, bool flush) {
  const auto places = static_cast<std::uint32_t>(bytes / row_bytes);
  std::vector<const std::byte*> wanted(rows + kPrefetchDistance);
  SplitMix64 random(seed);
  for (auto& row : wanted) row = data + std::size_t{random.below(places)} * row_bytes;
  if (flush) flush_all(data, bytes);
  const PoolFunction pool = choose_pool(DType::float32, DType::float32, Mode::sum, false);
  std::vector<float> out(row_bytes / sizeof(float));
  const auto length = static_cast<std::uint32_t>(rows);
  const PoolJob job{.rows = wanted.data(),
                    .lengths = &length,
                    .bags = 1,
                    .weights = nullptr,
                    .dim = out.size(),
                    .out = reinterpret_cast<std::byte*>(out.data()),
                    .out_stride = 0,
                    .behind = kPrefetchDistance};
  const std::uint64_t began = thread_ns();
  pool(job);
  const std::uint64_t ended = thread_ns();
  use(std::bit_cast<std::uint32_t>(out[0]));
  return static_cast<double>(ended - began) / static_cast<double>(rows);
}

double stream_bytes_per_second(const std::byte* data, std::size_t bytes,
                               const std::vector<int>& cpus, int passes) {
  const std::size_t part = bytes / cpus.size() / kCacheLine * kCacheLine;
  std::atomic<std::size_t> ready{0};
  std::atomic<std::uint64_t> began{0}, ended{0};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < cpus.size(); ++i) {
    threads.emplace_back([&, i] {
      pin_this_thread({cpus[i]});
      ++ready;
      while (ready < cpus.size()) std::this_thread::yield();
      std::uint64_t unset = 0;
      began.compare_exchange_strong(unset, now_ns());
      for (int pass = 0; pass < passes; ++pass) use(sum_words(data + i * part, part));
      const std::uint64_t now = now_ns();
      std::uint64_t seen = ended;
      while (seen < now && !ended.compare_exchange_weak(seen, now)) {
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const double seconds = static_cast<double>(ended - began) * 1e-9;
  return static_cast<double>(part * cpus.size()) * passes / seconds;
}

}  // namespace tieralloc
