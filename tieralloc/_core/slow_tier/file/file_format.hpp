// file_format.hpp: the format of a store's file, version 1.
//
//   0      superblock: header, directory of tables, checksum over both
//   1 MiB  superblock, a second copy
//   2 MiB  rows of the tables
//
// A change is written to one superblock and synced, then to the other. So a crash leaves at least
// one valid copy, and damage to one copy loses nothing. The valid copy with the higher generation
// counts. All numbers are little-endian.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "slow_tier/slow_pool.hpp"

namespace tieralloc::file_format {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::uint64_t kSuperblockBytes = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kDataOffset = 2 * kSuperblockBytes;

struct Directory {
  std::uint64_t generation = 0;
  std::vector<TableLayout> tables;
};

/// The bytes of a superblock. Throws std::invalid_argument for more than kMaxFileTables tables.
std::vector<std::byte> encode(const Directory& directory);

/// False if the bytes are no superblock, are damaged, or have another version.
bool decode(const std::byte* superblock, std::size_t size, Directory& directory);

/// The version field of a superblock, not verified by the checksum; 0: no superblock.
std::uint32_t version_of(const std::byte* superblock, std::size_t size);

}  // namespace tieralloc::file_format
