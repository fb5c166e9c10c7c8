// kernels.hpp: pooling rows into bags, the arithmetic of a lookup.
//
// Elements of a bag are added in the order of its indices, starting from zero, so that a float32
// sum is the same bit for bit whatever the width of the machine's vectors, and the same as
// torch.nn.functional.embedding_bag's. 16-bit rows are pooled in float and rounded once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.hpp"
#include "base/types.hpp"

namespace tieralloc {

enum class Mode { copy, sum, mean, max };

/// Rows between the one that is pooled and the one whose memory is asked for meanwhile: the memory
/// of so many rows at the start of a job is asked for by whoever has it done.
inline constexpr std::size_t kRowsAhead = 32;

struct PoolJob {
  const std::byte* const* rows;  ///< the rows of all bags, one bag after the other
  const std::uint32_t* lengths;  ///< rows a bag; null: one each
  std::size_t bags;
  const void* weights;  ///< one a row, float, or double for float64 rows; null: none
  std::size_t dim;
  std::byte* out;
  std::size_t out_stride;  ///< bytes from a bag's result to the next one's
  std::size_t behind = 0;  ///< rows behind those of the bags, which the next job pools
};

inline void prefetch_row(const std::byte* row, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += kCacheLine) prefetch_to_l2(row + at);
}

using PoolFunction = void (*)(const PoolJob&);

/// The function for this machine's processor. `out` is the rows' own type, or float32 for 16-bit
/// rows.
PoolFunction choose_pool(DType row, DType out, Mode mode, bool weighted);

/// Instruction set that choose_pool chose: "avx512", "avx2" or "baseline".
const char* kernel_isa();

}  // namespace tieralloc
