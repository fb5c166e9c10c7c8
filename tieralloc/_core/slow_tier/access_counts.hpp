// access_counts.hpp: how often rows were read in the slow tier recently.
//
// A row has two cells, which it shares with other rows (a count-min sketch with conservative
// updates; Estan and Varghese, SIGCOMM 2002). Each access halves one cell in turn, so that counts
// decay. Two rows with the same two cells have the same count.
//
// Concurrency: any number of threads; racing updates may lose counts.
// Cost: O(1) per access, 4 bytes per row of the fast tier.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/memory.hpp"
#include "base/types.hpp"

namespace tieralloc {

class AccessCounts {
 public:
  static constexpr unsigned kMaxCount = 15;

  /// For a fast tier of `capacity` rows.
  explicit AccessCounts(std::uint64_t capacity);
  static std::size_t bytes(std::uint64_t capacity);

  /// Counts an access; returns the row's count, at most kMaxCount.
  unsigned add(RowId row);

 private:
  std::atomic<std::uint8_t>* cells() const { return memory_.as<std::atomic<std::uint8_t>>(); }

  Region memory_;
  std::size_t mask_;
  std::atomic<std::size_t> hand_{0};  ///< next cell to halve
};

}  // namespace tieralloc
