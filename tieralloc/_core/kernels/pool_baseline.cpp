// pool_baseline.cpp: the pooling kernels for every processor.
#include <cstring>
#include <type_traits>

#include "base/types.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pool_variants.hpp"

namespace tieralloc::baseline {

inline constexpr std::size_t kVectorBytes = 16;
#include "kernels/pool_kernels.inc"

}  // namespace tieralloc::baseline
