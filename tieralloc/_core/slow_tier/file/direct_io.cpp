// direct_io.cpp: statx by its raw numbers, and a trial read.
#include "slow_tier/file/direct_io.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.hpp"
#include "base/memory.hpp"
#include "base/types.hpp"
#include "slow_tier/file/file_identity.hpp"

namespace tieralloc {
namespace {

// The kernel's ABI, for build machines with older headers: masks, and offsets in struct statx.
constexpr unsigned kDirectIo = 0x2000;       // STATX_DIOALIGN
constexpr unsigned kDirectReads = 0x2'0000;  // STATX_DIO_READ_ALIGN
constexpr std::size_t kMemoryAt = 0x98;      // stx_dio_mem_align
constexpr std::size_t kOffsetAt = 0x9C;      // stx_dio_offset_align
constexpr std::size_t kReadOffsetAt = 0xB4;  // stx_dio_read_offset_align

std::uint32_t field_at(const struct statx& status, std::size_t offset) {
  static_assert(sizeof status >= kReadOffsetAt + sizeof(std::uint32_t));
  std::uint32_t value;
  std::memcpy(&value, reinterpret_cast<const std::byte*>(&status) + offset, sizeof value);
  return value;
}

/// The file of `fd`, opened again. -1 with errno if the flags are refused.
int reopen(int fd, const std::string& name, int flags) {
  const int again = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), flags);
  if (again >= 0 || errno == EINVAL) return again;
  const int named = open(name.c_str(), flags);
  if (named < 0 || is_same_file(fd, named)) return named;
  close(named);
  throw SystemFailure(ESTALE, "file was replaced while it was opened; open the store again", name);
}

std::string direct_refusal(int fd) {
  if (const auto alignment = direct_io_alignment(fd)) {
    const std::uint32_t bytes = std::max(alignment->memory, alignment->offset);
    if (bytes == 0) return "the file has no direct I/O";
    if (bytes > kPage) return "direct I/O needs blocks of " + std::to_string(bytes) + " bytes";
  }
  const Region block(kPage, "trial read");
  if (pread(fd, block.data(), kPage, 0) < 0 && errno == EINVAL) {
    return "direct reads of " + std::to_string(kPage) + " bytes are refused";
  }
  return {};
}

bool takes_direct_pages(int fd) {
  const auto alignment = direct_io_alignment(fd);
  return alignment && std::max(alignment->memory, alignment->write_offset) <= kPage;
}

}  // namespace

std::optional<DirectIoAlignment> direct_io_alignment(int fd) {
  struct statx status;
  std::memset(&status, 0, sizeof status);
  if (statx(fd, "", AT_EMPTY_PATH, kDirectIo | kDirectReads, &status) != 0) return {};
  if ((status.stx_mask & kDirectIo) == 0) return {};
  const std::uint32_t offset = field_at(status, kOffsetAt);
  DirectIoAlignment alignment{field_at(status, kMemoryAt), offset, offset};
  const bool has_reads = (status.stx_mask & kDirectReads) != 0;
  const std::uint32_t reads = has_reads ? field_at(status, kReadOffsetAt) : 0;
  if (reads != 0) alignment.offset = reads;
  return alignment;
}

ReadDescriptor open_for_reads(int fd, const std::string& name, bool direct, bool writable) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC;
  ReadDescriptor reads;
  if (direct) {
    const int access = writable ? O_RDWR : O_RDONLY;
    reads.fd = reopen(fd, name, access | O_CLOEXEC | O_DIRECT);
    reads.direct = reads.fd >= 0;
  }
  if (reads.direct) {
    reads.refusal = direct_refusal(reads.fd);
    reads.direct_writes = writable && reads.refusal.empty() && takes_direct_pages(reads.fd);
    if (reads.refusal.empty()) return reads;
    close(reads.fd);
    reads.direct = false;
  }
  reads.fd = reopen(fd, name, kFlags);
  if (reads.fd < 0) {
    throw SystemFailure(
        errno, std::string("cannot open the slow tier for reading: ") + std::strerror(errno), name);
  }
  posix_fadvise(reads.fd, 0, 0, POSIX_FADV_RANDOM);
  return reads;
}

}  // namespace tieralloc
