// pool_variants.hpp: the kernels of each instruction set; kernels.cpp chooses among them.
#pragma once

#include "kernels/kernels.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TIERALLOC_X86_VARIANTS 1
#endif

// As choose_pool and choose_quantise, for one instruction set. Call it only on a processor that has
// it.
namespace tieralloc::baseline {
PoolFunction choose(DType row, DType out, Mode mode, bool weighted);
QuantiseFunction choose_quantise(DType row);
}  // namespace tieralloc::baseline
#ifdef TIERALLOC_X86_VARIANTS
namespace tieralloc::avx2 {
PoolFunction choose(DType row, DType out, Mode mode, bool weighted);
QuantiseFunction choose_quantise(DType row);
}  // namespace tieralloc::avx2
namespace tieralloc::avx512 {
PoolFunction choose(DType row, DType out, Mode mode, bool weighted);
QuantiseFunction choose_quantise(DType row);
}  // namespace tieralloc::avx512
#endif
