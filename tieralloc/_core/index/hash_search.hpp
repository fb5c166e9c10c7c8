// hash_search.hpp: many rows looked up in a hashed index at once.
#pragma once

#include <span>

#include "index/hash_table.hpp"

namespace tieralloc {

/// Fills in the entries of `rows`, with the vectors of this machine's processor.
void search_hash(const HashTable& table, std::span<const RowId> rows, Entry* entries);

/// The entry of one row.
Entry search_hash(const HashTable& table, RowId row);

}  // namespace tieralloc
