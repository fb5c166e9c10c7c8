// pool_baseline.cpp: the kernels that pool and quantise, for every processor.
#include <bit>
#include <cstring>
#include <type_traits>

#include "base/types.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pool_variants.hpp"

namespace tieralloc::baseline {

inline constexpr std::size_t kVectorBytes = 16;

/// Scale and bias, the two halves at the start of a row, times a weight.
template <typename Affine>
inline Affine load_affine(const std::byte* row, float weight) {
  Half halves[2];
  std::memcpy(halves, row, sizeof halves);
  return {to_float(halves[0]) * weight, to_float(halves[1]) * weight};
}

template <typename Values>
inline void store_halves(Half* out, Values values) {
  for (std::size_t j = 0; j < kVectorBytes / sizeof(float); ++j)
    out[j] = from_float<Half>(values[j]);
}

using Bytes16 [[gnu::vector_size(16)]] = std::uint8_t;
using Words16 [[gnu::vector_size(16)]] = std::uint16_t;
using Words32 [[gnu::vector_size(16)]] = std::uint32_t;

/// Twice puts a zero behind each element: an instruction each.
inline Words32 widen_to_32(const void* bytes) {
  std::uint32_t four;
  std::memcpy(&four, bytes, sizeof four);
  const auto single = reinterpret_cast<Bytes16>(Words32{four});
  const auto pairs = reinterpret_cast<Words16>(__builtin_shufflevector(
      single, Bytes16{}, 0, 16, 1, 16, 2, 16, 3, 16, 4, 16, 5, 16, 6, 16, 7, 16));
  return reinterpret_cast<Words32>(
      __builtin_shufflevector(pairs, Words16{}, 0, 8, 1, 8, 2, 8, 3, 8));
}

inline Words32 widen_to_64(const void* bytes) {
  std::uint8_t two[2];
  std::memcpy(two, bytes, sizeof two);
  return Words32{two[0], 0, two[1], 0};
}

template <typename Words>
inline void narrow_from_32(std::uint8_t* bytes, Words words) {
  for (std::size_t j = 0; j < 4; ++j) bytes[j] = static_cast<std::uint8_t>(words[j]);
}

template <typename Words>
inline void narrow_from_64(std::uint8_t* bytes, Words words) {
  for (std::size_t j = 0; j < 2; ++j) bytes[j] = static_cast<std::uint8_t>(words[j]);
}

#include "kernels/pool_kernels.inc"
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#include "kernels/quantise_kernels.inc"
#pragma GCC pop_options

}  // namespace tieralloc::baseline
