// belady.hpp: the fewest on-demand fetches that any policy can reach (OPT).
//
// Evicts the resident whose next use is farthest (Belady, "A study of replacement algorithms for a
// virtual-storage computer", 1966). Every missed row is inserted, as under the other policies: the
// newcomer itself is never bypassed, even where it is needed last. With bypass there would be
// slightly fewer misses; the figures published for libCacheSim's Belady are without.
#pragma once

#include <cstdint>
#include <span>

#include "simulator.hpp"
#include "types.hpp"

namespace tieralloc {

/// Counts from access `count_from` on. Takes O(n log n) time with a logarithm to base 64, and about
/// 4.2 bytes an access and 4 a row of memory. Throws as check_rows does, and std::invalid_argument
/// for a capacity of 0 or for 2^32-1 accesses or more.
Counts belady(std::span<const RowId> accesses, std::uint64_t rows, std::uint32_t capacity,
              std::uint64_t count_from = 0);

}  // namespace tieralloc
