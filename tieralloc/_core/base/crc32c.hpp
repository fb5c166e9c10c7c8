// crc32c.hpp: the checksum of pages, log frames and superblocks (CRC-32C, RFC 3720 B.4).
//
// Computed by the processor's instruction where there is one, else by a table.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tieralloc {

std::uint32_t crc32c(const void* data, std::size_t size);

/// The same by the table alone.
std::uint32_t crc32c_by_table(const void* data, std::size_t size);

}  // namespace tieralloc
