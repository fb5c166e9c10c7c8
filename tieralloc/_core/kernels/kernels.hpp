// kernels.hpp: pools rows into bags.
//
// Elements of a bag are added in the order of its indices, starting from zero. So a float32 sum is
// bit-identical for every vector width, and identical to torch.nn.functional.embedding_bag. 16-bit
// rows are pooled in float and rounded once. A quantised row adds scale * q + (sum + bias), in
// float, both factors times the row's weight: where the processor fuses multiplication and
// addition, the results are bit-identical to those of FBGEMM's operator. Rows of float8 are pooled
// as rows of their values, in float. Functions are pure; any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.hpp"
#include "base/types.hpp"

namespace tieralloc {

enum class Mode { copy, sum, mean, max };

/// Distance in rows between the row that is pooled and the row that is prefetched. The caller
/// prefetches the first rows of a job.
inline constexpr std::size_t kPrefetchDistance = 32;

struct PoolJob {
  const std::byte* const* rows;  ///< the rows of all bags, one bag after the other
  const std::uint32_t* lengths;  ///< rows per bag; null: one each
  std::size_t bags;
  const void* weights;  ///< one per row: float, or double for float64 rows; null: none
  std::size_t dim;
  std::byte* out;
  std::size_t out_stride;  ///< bytes from one bag's result to the next
  std::size_t behind = 0;  ///< rows in `rows` after those of the bags, for the next job
  BlockScales scales{};    ///< of rows of float8
};

inline void prefetch_row(const std::byte* row, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += kCacheLine) prefetch_to_l2(row + at);
  // Rows of whole cache lines begin with one; others may end in a further line, but none of their
  // words lies in two.
  if (bytes % kCacheLine > sizeof(std::uint32_t)) prefetch_to_l2(row + bytes - 1);
}

using PoolFunction = void (*)(const PoolJob&);

/// The function for this processor. `out` is the type of the rows, or float32 for 16-bit rows; for
/// quantised rows float32, float16 or, of float8, bfloat16. To copy rows as they are, also those
/// that have another type: Mode::copy into bytes, with `dim` bytes a row.
PoolFunction choose_pool(DType row, DType out, Mode mode, bool weighted);

/// Quantises `n` dense rows of `dim` floats each into dense rows. Returns the number of rows before
/// the first one that has an element that is infinite or NaN, or whose scale or bias overflows
/// float16; `n` if there is no such row.
using QuantiseFunction = std::size_t (*)(const float* rows, std::size_t n, std::size_t dim,
                                         std::byte* out);

/// The function for this processor and rows of int8 or int4.
QuantiseFunction choose_quantise(DType row);

/// The instruction set of choose_pool: "avx512", "avx2" or "baseline".
const char* kernel_isa();

}  // namespace tieralloc
