// pool_avx512.cpp: the kernels that pool and quantise, for AVX-512.
#include <immintrin.h>

#include <bit>
#include <cstring>
#include <type_traits>

#include "base/types.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pool_variants.hpp"

#ifdef TIERALLOC_X86_VARIANTS
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")

namespace tieralloc::avx512 {

inline constexpr std::size_t kVectorBytes = 64;
#include "kernels/halves_f16c.inc"
#include "kernels/pool_kernels.inc"
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#include "kernels/quantise_kernels.inc"
#pragma GCC pop_options

}  // namespace tieralloc::avx512
#endif
