// pool_avx2.cpp: the kernels that pool and quantise, for AVX2.
#include <bit>
#include <cstring>
#include <type_traits>

#include "base/types.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pool_variants.hpp"

#ifdef TIERALLOC_X86_VARIANTS
#include <immintrin.h>

#pragma GCC target("avx2,fma,f16c,prefer-vector-width=256")

namespace tieralloc::avx2 {

inline constexpr std::size_t kVectorBytes = 32;
#include "kernels/halves_f16c.inc"

inline __m256i widen_to_32(const void* bytes) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(bytes)));
}

inline __m256i widen_to_64(const void* bytes) {
  return _mm256_cvtepu8_epi64(_mm_loadu_si32(bytes));
}

template <typename Words>
inline void narrow_from_32(std::uint8_t* bytes, Words words) {
  const __m256i first = _mm256_set1_epi32(0x0C080400);  // of each 128 bits
  const __m256i packed = _mm256_shuffle_epi8(reinterpret_cast<__m256i>(words), first);
  _mm_storeu_si32(bytes, _mm256_castsi256_si128(packed));
  _mm_storeu_si32(bytes + 4, _mm256_extracti128_si256(packed, 1));
}

template <typename Words>
inline void narrow_from_64(std::uint8_t* bytes, Words words) {
  const __m256i first = _mm256_set1_epi16(0x0800);
  const __m256i packed = _mm256_shuffle_epi8(reinterpret_cast<__m256i>(words), first);
  _mm_storeu_si16(bytes, _mm256_castsi256_si128(packed));
  _mm_storeu_si16(bytes + 2, _mm256_extracti128_si256(packed, 1));
}

#include "kernels/pool_kernels.inc"
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#include "kernels/quantise_kernels.inc"
#pragma GCC pop_options

}  // namespace tieralloc::avx2
#endif
