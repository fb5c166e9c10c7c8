// pool_avx512.cpp: the pooling kernels for AVX-512.
#include <cstring>
#include <type_traits>

#include "base/types.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pool_variants.hpp"

#ifdef TIERALLOC_X86_VARIANTS
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")

namespace tieralloc::avx512 {

inline constexpr std::size_t kVectorBytes = 64;
#include "kernels/pool_kernels.inc"

}  // namespace tieralloc::avx512
#endif
