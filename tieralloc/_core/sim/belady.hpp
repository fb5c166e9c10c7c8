// belady.hpp: the fewest on-demand fetches that any policy can reach (OPT).
//
// Evicts the resident whose next use is farthest (Belady, "A study of replacement algorithms for a
// virtual-storage computer", 1966). Every missed row is inserted, as under the other policies: the
// newcomer itself is never bypassed, even where it is needed last. With bypass there would be
// slightly fewer misses; the figures published for libCacheSim's Belady are without.
//
// What it does at each access is what learned policies are taught by.
#pragma once

#include <cstdint>
#include <span>

#include "base/types.hpp"
#include "sim/simulator.hpp"

namespace tieralloc {

/// Counts from access `count_from` on. Takes O(n log n) time with a logarithm to base 64, and about
/// 4.2 bytes an access and 4 a row of memory. Throws as check_rows does, and std::invalid_argument
/// for a capacity of 0 or for 2^32-1 accesses or more.
Counts belady(std::span<const RowId> accesses, std::uint64_t rows, std::uint32_t capacity,
              std::uint64_t count_from = 0);

/// What OPT does at each access: whether it `missed` (1) or hit (0), and whether the row is `kept`
/// until its next use (1), which no row is that has none. The spans are as long as the stream.
/// Takes what belady takes, and throws as it does, nothing written.
void opt_labels(std::span<const RowId> accesses, std::uint64_t rows, std::uint32_t capacity,
                std::span<std::uint8_t> missed, std::span<std::uint8_t> kept);

/// The position of the next access to the same row; the length of the stream where there is none.
/// Throws as belady does, nothing written.
void next_uses(std::span<const RowId> accesses, std::uint64_t rows,
               std::span<std::uint32_t> positions);

}  // namespace tieralloc
