// kernels.cpp: the choice of the pooling kernels.
#include "kernels/kernels.hpp"

#include "kernels/pool_variants.hpp"

namespace tieralloc {
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
