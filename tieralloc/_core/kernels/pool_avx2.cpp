// pool_avx2.cpp: the kernels that pool and quantise, for AVX2.
#include <immintrin.h>

#include <bit>
#include <cstring>
#include <type_traits>

#include "base/types.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pool_variants.hpp"

#ifdef TIERALLOC_X86_VARIANTS
#pragma GCC target("avx2,fma,f16c,prefer-vector-width=256")

namespace tieralloc::avx2 {

inline constexpr std::size_t kVectorBytes = 32;
#include "kernels/halves_f16c.inc"
#include "kernels/pool_kernels.inc"
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#include "kernels/quantise_kernels.inc"
#pragma GCC pop_options

}  // namespace tieralloc::avx2
#endif
