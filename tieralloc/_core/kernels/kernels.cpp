// kernels.cpp: the pooling kernels, compiled per instruction set, and the choice among them.
#include "kernels/kernels.hpp"

#include <cstring>
#include <type_traits>

#include "base/types.hpp"

namespace tieralloc {

namespace baseline {
inline constexpr std::size_t kVectorBytes = 16;
#include "kernels/pool_kernels.inc"
}  // namespace baseline

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TIERALLOC_X86_VARIANTS 1

#pragma GCC push_options
#pragma GCC target("avx2,fma,prefer-vector-width=256")
namespace avx2 {
inline constexpr std::size_t kVectorBytes = 32;
#include "kernels/pool_kernels.inc"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
namespace avx512 {
inline constexpr std::size_t kVectorBytes = 64;
#include "kernels/pool_kernels.inc"
}  // namespace avx512
#pragma GCC pop_options
#endif

namespace {

struct Isa {
  const char* name;
  PoolFunction (*choose)(DType, DType, Mode, bool);
};

Isa best_isa() {
#ifdef TIERALLOC_X86_VARIANTS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return {"avx512", avx512::choose};
  }
  if (avx2) return {"avx2", avx2::choose};
#endif
  return {"baseline", baseline::choose};
}

const Isa& isa() {
  static const Isa chosen = best_isa();
  return chosen;
}

}  // namespace

PoolFunction choose_pool(DType row, DType out, Mode mode, bool weighted) {
  return isa().choose(row, out, mode, weighted);
}

const char* kernel_isa() {
  return isa().name;
}

}  // namespace tieralloc
