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

#include "kernels/pool_kernels.inc"
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#include "kernels/quantise_kernels.inc"
#pragma GCC pop_options

}  // namespace tieralloc::baseline
