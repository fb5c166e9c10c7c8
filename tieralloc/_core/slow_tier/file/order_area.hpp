// order_area.hpp: the orders of tables in a file.
//
// Behind the pages of a table with an order there are two copies of it, each in whole pages:
//
//   header          magic number, sizes, CRC-32C of header and content, this field being 0
//   page lengths    32 bits for each arranged page
//   arranged rows   page after page, 32 bits each; 64 bits in a table of more than 2**32 rows
//
// The superblock has the numbers of arranged rows and pages. An order never changes in place: a
// table that grows gets a copy. All numbers are little-endian.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "slow_tier/slow_pool.hpp"

namespace tieralloc::file_format {

/// The end of a table with its order.
std::uint64_t table_end(const TableLayout& table);

/// Writes both copies. Throws SystemFailure.
void write_order(int fd, const std::string& path, const TableLayout& table);

/// Reads the first valid copy; null if both are damaged. Throws SystemFailure.
std::shared_ptr<const RowOrder> read_order(int fd, const std::string& path,
                                           const TableLayout& table);

}  // namespace tieralloc::file_format
