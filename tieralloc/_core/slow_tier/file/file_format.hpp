// file_format.hpp: the format of a store's file, versions 2 to 5.
//
//   0      superblock: header, directory of tables, checksum over both
//   1 MiB  superblock, a second copy
//   2 MiB  pages of the tables (slow_tier/page.hpp); behind those of a table with an order, the
//          order (order_area.hpp)
//
// A change is written to one superblock and synced, then to the other. So a crash leaves at least
// one valid copy, and damage to one copy loses nothing. The valid copy with the higher generation
// counts. A superblock names a table only after the file has the table's size, durably.
//
// The header names the live segments of the redo log (redo_log.hpp), numbers 1 and up, and the
// pages that a load is writing. All numbers are little-endian.
//
// Tables are in order of creation. Space between them belonged to tables that were dropped or have
// moved; a later table may take it.
//
// A file has the least version with all of its properties, which earlier releases read: 5 from its
// first delta on (log_delta.hpp); else 4 if a table has taken space of a former one or
// has moved, so that offsets do not ascend; else 3 with a table that has an order; else 2.
//
// Version 1, which is only read: no store id and no log; rows lie densely, without checksums.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "slow_tier/slow_pool.hpp"

namespace tieralloc::file_format {

inline constexpr std::uint32_t kVersion = 5;
inline constexpr std::uint32_t kReuseVersion = 4;
inline constexpr std::uint32_t kOrderVersion = 3;
inline constexpr std::uint32_t kSecondVersion = 2;
inline constexpr std::uint32_t kFirstVersion = 1;
inline constexpr std::uint64_t kSuperblockBytes = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kDataOffset = 2 * kSuperblockBytes;

struct Directory {
  std::uint32_t version = kVersion;  ///< of the file that was read
  std::uint64_t generation = 0;
  std::uint64_t store_id = 0;   ///< random
  std::uint64_t first_log = 0;  ///< number of the oldest live segment; 0: there is none
  std::uint64_t last_log = 0;   ///< number of the newest segment ever
  /// Pages [begin, end) that are being written for the first time: an invalid one of them is zero.
  std::uint64_t fresh_begin = 0;
  std::uint64_t fresh_end = 0;
  bool has_deltas = false;          ///< the log may have frames of deltas
  std::uint64_t delta_version = 0;  ///< of the last delta in the pages; the log may have later ones
  std::vector<TableLayout> tables;

  /// The end of the table with the highest offset.
  std::uint64_t end() const;
  /// The tables in order of offsets.
  std::vector<TableLayout> by_offset() const;
};

/// The bytes of a superblock. Throws std::invalid_argument for more than kMaxFileTables tables.
std::vector<std::byte> encode(const Directory& directory);

/// False if the bytes are no superblock, are damaged, or have an unknown version.
bool decode(const std::byte* superblock, std::size_t size, Directory& directory);

/// "table 'item' has rows of dtype number 9" for a valid superblock with a dtype of a later
/// release; empty otherwise.
std::string unknown_dtype(const std::byte* superblock, std::size_t size);

/// The version field of a superblock, not verified by the checksum; 0: no superblock.
std::uint32_t version_of(const std::byte* superblock, std::size_t size);

}  // namespace tieralloc::file_format
