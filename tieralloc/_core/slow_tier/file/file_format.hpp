// file_format.hpp: what a store's file says of itself.
//
// The file begins with two superblocks of 1 MiB, each a header and the directory of tables, with a
// checksum over both. A change is written to one and synced, and then to the other, so a crash
// leaves at least one whole, and damage to one loses nothing; the valid one with the higher
// generation counts. Rows follow from 2 MiB on. All numbers are little-endian.
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

/// Bytes of a superblock that the directory takes. Throws std::invalid_argument where it does not
/// fit.
std::vector<std::byte> encode(const Directory& directory);

/// False where the bytes are no superblock, are damaged, or of another version.
bool decode(const std::byte* superblock, std::size_t size, Directory& directory);

/// The version that a superblock says it is of, which only `decode` can confirm; 0: no superblock.
std::uint32_t version_of(const std::byte* superblock, std::size_t size);

}  // namespace tieralloc::file_format
