// pool_avx512.cpp: the kernels that pool and quantise, for AVX-512.
#include <bit>
#include <cstring>
#include <type_traits>

#include "base/types.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pool_variants.hpp"

#ifdef TIERALLOC_X86_VARIANTS
#include <immintrin.h>

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")

namespace tieralloc::avx512 {

inline constexpr std::size_t kVectorBytes = 64;
#include "kernels/halves_f16c.inc"

// The masks are complete: GCC 12 warns of the intrinsics without masks.

inline __m512i widen_to_32(const void* bytes) {
  const __m128i loaded = _mm_loadu_si128(static_cast<const __m128i*>(bytes));
  return _mm512_maskz_cvtepu8_epi32(0xFFFF, loaded);
}

inline __m512i widen_to_64(const void* bytes) {
  const __m128i loaded = _mm_loadl_epi64(static_cast<const __m128i*>(bytes));
  return _mm512_maskz_cvtepu8_epi64(0xFF, loaded);
}

template <typename Words>
inline void narrow_from_32(void* bytes, Words words) {
  _mm512_mask_cvtepi32_storeu_epi8(bytes, 0xFFFF, reinterpret_cast<__m512i>(words));
}

template <typename Words>
inline void narrow_from_64(void* bytes, Words words) {
  _mm512_mask_cvtepi64_storeu_epi8(bytes, 0xFF, reinterpret_cast<__m512i>(words));
}

#include "kernels/pool_kernels.inc"
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#include "kernels/quantise_kernels.inc"
#pragma GCC pop_options

}  // namespace tieralloc::avx512
#endif
