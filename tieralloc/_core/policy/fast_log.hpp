// fast_log.hpp: approximate logarithms and powers to base 2, vectorisable.
#pragma once

#include <bit>
#include <cstdint>

namespace tieralloc {

/// Logarithm of a positive, normal number, with an error below 0.001.
constexpr float fast_log2(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto exponent = static_cast<float>(static_cast<std::int32_t>(bits >> 23) - 127);
  const auto m = std::bit_cast<float>((bits & 0x7FFFFF) | 0x3F800000);  // in [1, 2)
  return exponent + (-2.153620718f + m * (3.047884161f + m * (-1.051875031f + m * 0.158248615f)));
}

/// 2 to the power of x up to 60, with a relative error below 1/5000. Powers below -60 are as -60.
inline float fast_exp2(float x) {
  x = x > -60.0f ? x : -60.0f;
  const auto floor = static_cast<std::int32_t>(x + 128.0f) - 128;
  const float f = x - static_cast<float>(floor);  // in [0, 1)
  const float power = 1.0f + f * (0.69562f + f * (0.22624f + f * 0.07814f));
  return std::bit_cast<float>((floor + 127) << 23) * power;
}

/// Four values at a time, of any 128-bit instruction set.
using Floats4 [[gnu::vector_size(16)]] = float;
using Ints4 [[gnu::vector_size(16)]] = std::int32_t;

inline Floats4 fast_log2(Floats4 x) {
  const auto bits = reinterpret_cast<Ints4>(x);
  const Floats4 exponent = __builtin_convertvector((bits >> 23) - 127, Floats4);
  const auto m = reinterpret_cast<Floats4>((bits & 0x7FFFFF) | 0x3F800000);
  return exponent + (-2.153620718f + m * (3.047884161f + m * (-1.051875031f + m * 0.158248615f)));
}

inline Floats4 fast_exp2(Floats4 x) {
  x = x > -60.0f ? x : Floats4{} - 60.0f;
  const Ints4 floor = __builtin_convertvector(x + 128.0f, Ints4) - 128;
  const Floats4 f = x - __builtin_convertvector(floor, Floats4);
  const Floats4 power = 1.0f + f * (0.69562f + f * (0.22624f + f * 0.07814f));
  return reinterpret_cast<Floats4>((floor + 127) << 23) * power;
}

}  // namespace tieralloc
