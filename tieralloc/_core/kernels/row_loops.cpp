// row_loops.cpp: the loops, compiled per instruction set, and the choice among them.
#include "kernels/row_loops.hpp"

namespace tieralloc {

namespace baseline {
#include "kernels/row_loops.inc"
}  // namespace baseline

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TIERALLOC_X86_VARIANTS 1

#pragma GCC push_options
#pragma GCC target("avx2")
namespace avx2 {
#include "kernels/row_loops.inc"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,prefer-vector-width=512")
namespace avx512 {
#include "kernels/row_loops.inc"
}  // namespace avx512
#pragma GCC pop_options
#endif

namespace {

const RowLoops& best_loops() {
#ifdef TIERALLOC_X86_VARIANTS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return avx512::kRowLoops;
  }
  if (__builtin_cpu_supports("avx2")) return avx2::kRowLoops;
#endif
  return baseline::kRowLoops;
}

}  // namespace

const RowLoops& row_loops() {
  static const RowLoops& chosen = best_loops();
  return chosen;
}

}  // namespace tieralloc
