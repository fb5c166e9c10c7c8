// compact_search.hpp: vectorised search of a compact index. Any number of threads beside one
// writer.
#pragma once

#include <span>

#include "index/compact_table.hpp"
#include "index/hash_table.hpp"

namespace tieralloc {

/// Writes the entries of `rows`.
void search_compact(const CompactTable& table, const HashTable& overflow,
                    std::span<const RowId> rows, Entry* entries);

/// The entry of one row.
Entry search_compact(const CompactTable& table, const HashTable& overflow, RowId row);

}  // namespace tieralloc
