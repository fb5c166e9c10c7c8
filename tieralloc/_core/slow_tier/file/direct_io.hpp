// direct_io.hpp: the descriptor that reads of a file use, direct if the file permits it.
//
// The kernel states the alignment of direct reads (statx, Linux 6.1). Reads are aligned to kPage: a
// file that needs more, or refuses a direct read, is read through the page cache.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tieralloc {

/// Alignment of direct reads, bytes; 0: the file has no direct I/O.
struct DirectIoAlignment {
  std::uint32_t memory = 0;
  std::uint32_t offset = 0;
};

/// None if the kernel or the file system states no alignment.
std::optional<DirectIoAlignment> direct_io_alignment(int fd);

struct ReadDescriptor {
  int fd = -1;
  bool direct = false;
  /// The reason why reads are not direct although the file can be opened for direct I/O; or empty.
  std::string refusal;
};

/// Opens the file of `fd` a second time, to read. `name` is its name at present, which counts only
/// if /proc is missing. Throws SystemFailure: with ESTALE if the name has another file by then.
ReadDescriptor open_for_reads(int fd, const std::string& name, bool direct);

}  // namespace tieralloc
