// file_format.hpp: what a store's file says of itself.
//
// The file begins with two superblocks of 1 MiB, each a header and the directory of tables, with a
// checksum over both. A change is written to the older one and synced, so a crash leaves at least
// one whole; the valid one with the higher generation counts. Rows follow from 2 MiB on. All
// numbers are little-endian.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "slow_pool.hpp"

namespace tieralloc::file_format {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::uint64_t kSuperblockBytes = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kDataOffset = 2 * kSuperblockBytes;
inline constexpr std::size_t kMaxTableName = 191;

struct Directory {
  std::uint64_t generation = 0;
  std::vector<TableLayout> tables;
};

/// Bytes of a superblock that the directory takes. Throws std::invalid_argument where it does not
/// fit.
std::vector<std::byte> encode(const Directory& directory);

/// Throws std::invalid_argument, naming `path`, where the bytes are of a newer version; returns
/// false where they are no valid superblock.
bool decode(const std::byte* superblock, std::size_t size, const std::string& path,
            Directory& directory);

}  // namespace tieralloc::file_format
