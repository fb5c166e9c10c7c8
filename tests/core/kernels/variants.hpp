// variants.hpp: the kernels of every instruction set of this processor.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.hpp"
#include "kernels/pool_variants.hpp"

namespace tieralloc::test {

struct Variant {
  std::string name;
  PoolFunction (*choose)(DType, DType, Mode, bool);
  QuantiseFunction (*choose_quantise)(DType);
};

/// The narrowest first.
inline std::vector<Variant> variants() {
  std::vector<Variant> list{{"baseline", baseline::choose, baseline::choose_quantise}};
#ifdef TIERALLOC_X86_VARIANTS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    list.push_back({"avx2", avx2::choose, avx2::choose_quantise});
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      list.push_back({"avx512", avx512::choose, avx512::choose_quantise});
    }
  }
#endif
  return list;
}

}  // namespace tieralloc::test
