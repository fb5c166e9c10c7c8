// hash_search.hpp: vectorised search of a hash index. Any number of threads beside one writer.
#pragma once

#include <span>

#include "index/hash_table.hpp"

namespace tieralloc {

/// Writes the entries of `rows`.
void search_hash(const HashTable& table, std::span<const RowId> rows, Entry* entries);

/// The entry of one row.
Entry search_hash(const HashTable& table, RowId row);

}  // namespace tieralloc
