// ranked_bits.hpp: a bit vector that counts the ones before a bit.
//
// A cache line holds 480 bits and the number of ones before them, so a count reads one line.
//
// Concurrency: any number of readers after the last `set` and `count`.
// Cost: O(1) per call; 16 bits for 15.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tieralloc {

class RankedBits {
 public:
  RankedBits() = default;
  explicit RankedBits(std::uint64_t bits) : lines_(num_lines(bits)) {}

  static constexpr std::uint64_t bytes_for(std::uint64_t bits) { return num_lines(bits) * 64; }
  std::uint64_t bytes() const { return lines_.size() * sizeof(Line); }

  void set(std::uint64_t bit) {
    const std::uint64_t in_line = bit % kBits;
    lines_[bit / kBits].words[in_line / 32] |= std::uint32_t{1} << in_line % 32;
  }

  bool operator[](std::uint64_t bit) const {
    const std::uint64_t in_line = bit % kBits;
    return lines_[bit / kBits].words[in_line / 32] >> in_line % 32 & 1;
  }

  /// Completes the vector after the last `set`; returns the number of ones, below 2**32.
  std::uint64_t count() {
    std::uint64_t ones = 0;
    for (Line& line : lines_) {
      line.ones_before = static_cast<std::uint32_t>(ones);
      for (const std::uint32_t word : line.words) ones += std::popcount(word);
    }
    return ones;
  }

  /// Ones before a bit.
  std::uint64_t rank(std::uint64_t bit) const {
    const Line& line = lines_[bit / kBits];
    const std::uint64_t in_line = bit % kBits;
    const std::uint64_t full = in_line / 64;
    std::uint64_t ones = line.ones_before;
    for (std::uint64_t pair = 0; pair < full; ++pair) ones += count_ones(line.pair(pair));
    return ones + count_ones(line.pair(full) & ((std::uint64_t{1} << in_line % 64) - 1));
  }

 private:
  static constexpr std::uint64_t kBits = 480;
  struct alignas(64) Line {
    std::uint32_t ones_before = 0;
    std::uint32_t words[15] = {};

    std::uint64_t pair(std::uint64_t i) const {
      return words[2 * i] | (i == 7 ? 0 : std::uint64_t{words[2 * i + 1]} << 32);
    }
  };
  static_assert(sizeof(Line) == 64);

  /// std::popcount is a call where the compiler may not assume the instruction.
  static constexpr std::uint64_t count_ones(std::uint64_t bits) {
    bits -= bits >> 1 & 0x5555555555555555u;
    bits = (bits & 0x3333333333333333u) + (bits >> 2 & 0x3333333333333333u);
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
    return bits * 0x0101010101010101u >> 56;
  }

  static constexpr std::uint64_t num_lines(std::uint64_t bits) {
    return (bits + kBits - 1) / kBits;
  }

  std::vector<Line> lines_;
};

}  // namespace tieralloc
