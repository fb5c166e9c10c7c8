// split_mix.hpp: a random number generator of a few instructions.
#pragma once

#include <cstdint>

namespace tieralloc {

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
/// 2014).
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}

  /// Uniform in 0 … bound-1, to one part in 2^32.
  std::uint32_t below(std::uint32_t bound) {
    state_ += 0x9E3779B97F4A7C15u;
    return static_cast<std::uint32_t>((mix(state_) >> 32) * bound >> 32);
  }

  /// A hash of a number in which each input bit affects all 64 bits.
  static constexpr std::uint64_t mix(std::uint64_t bits) {
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9u;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBu;
    return bits ^ (bits >> 31);
  }

 private:
  std::uint64_t state_;
};

}  // namespace tieralloc
