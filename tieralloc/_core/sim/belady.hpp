// belady.hpp: OPT, the min number of on-demand fetches of any eviction policy (Belady, "A study of
// replacement algorithms for a virtual-storage computer", IBM Systems Journal 1966).
//
//   miss: if the tier is full, evict the resident row with the farthest next use; insert the row
// OPT inserts every missed row, as the other policies do, even if its next use is farthest. With
// bypass it would miss slightly less; published results of libCacheSim's Belady have no bypass.
// Learned policies are trained on OPT's decisions.
#pragma once

#include <cstdint>
#include <span>

#include "base/types.hpp"
#include "sim/simulator.hpp"

namespace tieralloc {

/// The requests of a stream, for their device reads.
struct Requests {
  std::size_t samples = 0;                          ///< of each request; 0: each access is one
  std::span<const std::uint32_t> sample_lengths{};  ///< accesses of each sample
  RowPages pages{};                                 ///< as for DeviceReads
};

/// Returns the counts from access `count_from` on. A request that contains a row several times may
/// miss it again, but reads its page once. Takes O(n log64 n) time, and 4.2 bytes of memory per
/// access and 4 per row. Throws as check_rows, check_lengths and DeviceReads do, and
/// std::invalid_argument for a capacity of 0 or for 2^32-1 accesses or more.
Counts belady(std::span<const RowId> accesses, std::uint64_t rows, std::uint32_t capacity,
              std::uint64_t count_from = 0, Requests requests = {});

/// Labels each access by OPT's decisions: `missed` is 1 for a miss and 0 for a hit; `kept` is 1 if
/// the row stays resident until its next use, 0 if it does not or has no next use. The spans are as
/// long as the stream. Complexity and errors as for belady; nothing is written on an error.
void opt_labels(std::span<const RowId> accesses, std::uint64_t rows, std::uint32_t capacity,
                std::span<std::uint8_t> missed, std::span<std::uint8_t> kept);

/// Writes the position of the next access to the same row; the length of the stream if there is
/// none. Throws as belady does; nothing is written on an error.
void next_uses(std::span<const RowId> accesses, std::uint64_t rows,
               std::span<std::uint32_t> positions);

}  // namespace tieralloc
