// hash_search.cpp: the search, compiled per instruction set, and the choice among them.
//
// All cells of a bucket are compared. The matching cell is random, so a branch on it would be
// mispredicted for most rows, which costs more than seven comparisons.
#include "index/hash_search.hpp"

#include <algorithm>

// A vector is loaded from atomic cells in one plain read. x86-64 processors read each aligned word
// as a whole, but C++ does not guarantee it, and ThreadSanitizer reports it.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define TIERALLOC_VECTOR_SEARCH 1
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of GCC 12 in this header
#include <immintrin.h>
#endif

namespace tieralloc {

using Word = HashTable::Word;

namespace baseline {

inline Word match(const HashTable::Bucket& bucket, Word wanted, Word rest) {
  Word found = 0;
#pragma GCC unroll 7
  for (int i = 0; i < HashTable::kCellsPerBucket; ++i) {
    const Word word = bucket.cells[i].load(std::memory_order_acquire);
    // One word or the other, never a mixture: a row that is inserted again may be in two cells.
    found = (word ^ wanted) <= rest ? word : found;
  }
  return found;
}

#include "index/hash_search.inc"

}  // namespace baseline

#ifdef TIERALLOC_VECTOR_SEARCH
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,bmi")
namespace avx512 {

inline Word match(const HashTable::Bucket& bucket, Word wanted, Word rest) {
  const __m512i words = _mm512_load_si512(&bucket);
  std::atomic_signal_fence(std::memory_order_acquire);  // x86-64 keeps loads in order
  const __m512i difference = _mm512_xor_si512(words, _mm512_set1_epi64(static_cast<long>(wanted)));
  // The count in the last word is too small to match a row.
  const unsigned matches =
      _mm512_cmple_epu64_mask(difference, _mm512_set1_epi64(static_cast<long>(rest)));
  // The first of two cells: a row that is inserted again may be in both.
  const __mmask8 first = static_cast<__mmask8>(matches & (0u - matches));
  return static_cast<Word>(
      _mm_cvtsi128_si64(_mm512_castsi512_si128(_mm512_maskz_compress_epi64(first, words))));
}

#include "index/hash_search.inc"

}  // namespace avx512
#pragma GCC pop_options
#endif

namespace {

using Search = void (*)(const HashTable&, std::span<const RowId>, Entry*);

Search best_search() {
#ifdef TIERALLOC_VECTOR_SEARCH
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("bmi")) {
    return avx512::search_all;
  }
#endif
  return baseline::search_all;
}

}  // namespace

void search_hash(const HashTable& table, std::span<const RowId> rows, Entry* entries) {
  static const Search search = best_search();
  search(table, rows, entries);
}

Entry search_hash(const HashTable& table, RowId row) {
  return baseline::find_from(table, table.bucket_of(row), row);
}

}  // namespace tieralloc
