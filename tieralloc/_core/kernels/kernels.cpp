// kernels.cpp: the choice of the kernels.
#include "kernels/kernels.hpp"

#include "kernels/pool_variants.hpp"

namespace tieralloc {
namespace {

struct Isa {
  const char* name;
  PoolFunction (*choose)(DType, DType, Mode, bool);
  QuantiseFunction (*choose_quantise)(DType);
};

Isa best_isa() {
#ifdef TIERALLOC_X86_VARIANTS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return {"avx512", avx512::choose, avx512::choose_quantise};
  }
  if (avx2) return {"avx2", avx2::choose, avx2::choose_quantise};
#endif
  return {"baseline", baseline::choose, baseline::choose_quantise};
}

const Isa& isa() {
  static const Isa chosen = best_isa();
  return chosen;
}

}  // namespace

PoolFunction choose_pool(DType row, DType out, Mode mode, bool weighted) {
  return isa().choose(row, out, mode, weighted);
}

QuantiseFunction choose_quantise(DType row) {
  return isa().choose_quantise(row);
}

const char* kernel_isa() {
  return isa().name;
}

}  // namespace tieralloc
