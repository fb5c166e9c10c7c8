// compact_search.cpp: the search, compiled per instruction set, and the choice among them.
//
// All cells of a bucket are compared, as in hash_search.cpp.
#include "index/compact_search.hpp"

#include "index/hash_search.hpp"

// As in hash_search.cpp, a vector is loaded from atomic cells in one plain read.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define TIERALLOC_VECTOR_SEARCH 1
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of GCC 12 in this header
#include <immintrin.h>
#endif

namespace tieralloc {

using Cell = CompactTable::Cell;

namespace baseline {

inline Cell match(const CompactTable::Bucket& bucket, Cell row_part, Cell slot_mask) {
  Cell found = 0;
#pragma GCC unroll 15
  for (int i = 0; i < CompactTable::kCellsPerBucket; ++i) {
    const Cell cell = bucket.cells[i].load(std::memory_order_acquire);
    // One cell or the other, never a mixture: a row that is inserted again may be in two cells.
    found = CompactTable::matches(cell, row_part, slot_mask) ? cell : found;
  }
  return found;
}

#include "index/compact_search.inc"

}  // namespace baseline

#ifdef TIERALLOC_VECTOR_SEARCH
#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2")
namespace avx2 {

/// The cells of half a bucket that match, one bit each.
inline unsigned matches_of(__m256i cells, Cell row_part, Cell slot_mask) {
  const __m256i difference =
      _mm256_xor_si256(_mm256_andnot_si256(_mm256_set1_epi32(static_cast<int>(kEntryFlags)), cells),
                       _mm256_set1_epi32(static_cast<int>(row_part)));
  const __m256i less_one = _mm256_sub_epi32(difference, _mm256_set1_epi32(1));
  const __m256i last = _mm256_set1_epi32(static_cast<int>(slot_mask - 1));
  const __m256i matches = _mm256_cmpeq_epi32(_mm256_min_epu32(less_one, last), less_one);
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(matches)));
}

inline Cell match(const CompactTable::Bucket& bucket, Cell row_part, Cell slot_mask) {
  const auto* halves = reinterpret_cast<const __m256i*>(&bucket);
  const __m256i low = _mm256_load_si256(halves);
  const __m256i high = _mm256_load_si256(halves + 1);
  std::atomic_signal_fence(std::memory_order_acquire);  // x86-64 keeps loads in order
  const unsigned in_low = matches_of(low, row_part, slot_mask);
  const unsigned in_high = matches_of(high, row_part, slot_mask) & 0x7F;  // without the count
  const __m256i half = in_low != 0 ? low : high;
  const unsigned matches = in_low != 0 ? in_low : in_high;
  const auto place = static_cast<int>(_tzcnt_u32(matches) & 7);
  const __m256i found = _mm256_permutevar8x32_epi32(half, _mm256_set1_epi32(place));
  return matches == 0 ? 0 : static_cast<Cell>(_mm_cvtsi128_si32(_mm256_castsi256_si128(found)));
}

#include "index/compact_search.inc"

}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,bmi,bmi2")
namespace avx512 {

inline Cell match(const CompactTable::Bucket& bucket, Cell row_part, Cell slot_mask) {
  const __m512i cells = _mm512_load_si512(&bucket);
  std::atomic_signal_fence(std::memory_order_acquire);  // x86-64 keeps loads in order
  const __m512i difference =
      _mm512_xor_si512(_mm512_andnot_si512(_mm512_set1_epi32(static_cast<int>(kEntryFlags)), cells),
                       _mm512_set1_epi32(static_cast<int>(row_part)));
  const __m512i less_one = _mm512_sub_epi32(difference, _mm512_set1_epi32(1));
  const unsigned matches = _mm512_mask_cmplt_epu32_mask(
      0x7FFF, less_one, _mm512_set1_epi32(static_cast<int>(slot_mask)));  // without the count
  // The first of two cells: a row that is inserted again may be in both.
  const auto first = static_cast<__mmask16>(matches & (0u - matches));
  return static_cast<Cell>(
      _mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_maskz_compress_epi32(first, cells))));
}

#include "index/compact_search.inc"

}  // namespace avx512
#pragma GCC pop_options
#endif

namespace {

using Search = void (*)(const CompactTable&, const HashTable&, std::span<const RowId>, Entry*);

Search best_search() {
#ifdef TIERALLOC_VECTOR_SEARCH
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("bmi2")) {
    return avx512::search_all;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) return avx2::search_all;
#endif
  return baseline::search_all;
}

}  // namespace

void search_compact(const CompactTable& table, const HashTable& overflow,
                    std::span<const RowId> rows, Entry* entries) {
  static const Search search = best_search();
  search(table, overflow, rows, entries);
}

Entry search_compact(const CompactTable& table, const HashTable& overflow, RowId row) {
  return baseline::find_row(table, overflow, row);
}

}  // namespace tieralloc
