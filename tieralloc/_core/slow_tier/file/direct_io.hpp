// direct_io.hpp: the descriptor that reads and page writes of a file use, direct if it permits it.
//
// The kernel states the alignment of direct I/O (statx, Linux 6.1). Reads are aligned to kPage: a
// file that needs more, or refuses a direct read, is read through the page cache. Direct writes
// have no trial: a file whose alignment the kernel does not state has none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tieralloc {

/// Alignment of direct I/O, bytes; 0: the file has none.
struct DirectIoAlignment {
  std::uint32_t memory = 0;
  std::uint32_t offset = 0;  ///< of reads, which may need less than writes
  std::uint32_t write_offset = 0;
};

/// None if the kernel or the file system states no alignment.
std::optional<DirectIoAlignment> direct_io_alignment(int fd);

struct ReadDescriptor {
  int fd = -1;
  bool direct = false;
  bool direct_writes = false;
  /// The reason why reads are not direct although the file can be opened for direct I/O; or empty.
  std::string refusal;
};

/// Opens the file of `fd` a second time, to read and, if it is `writable`, to write directly.
/// `name` is its name at present, which counts only if /proc is missing. Throws SystemFailure: with
/// ESTALE if the name has another file by then.
ReadDescriptor open_for_reads(int fd, const std::string& name, bool direct, bool writable);

}  // namespace tieralloc
