// pool_avx2.cpp: the pooling kernels for AVX2.
#include <cstring>
#include <type_traits>

#include "base/types.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pool_variants.hpp"

#ifdef TIERALLOC_X86_VARIANTS
#pragma GCC target("avx2,fma,prefer-vector-width=256")

namespace tieralloc::avx2 {

inline constexpr std::size_t kVectorBytes = 32;
#include "kernels/pool_kernels.inc"

}  // namespace tieralloc::avx2
#endif
