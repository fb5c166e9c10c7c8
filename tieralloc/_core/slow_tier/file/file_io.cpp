// file_io.cpp: system calls repeated until all bytes are transferred.
#include "slow_tier/file/file_io.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.hpp"
#include "base/types.hpp"

namespace tieralloc {

void fail_io(int code, const std::string& path, const std::string& what) {
  throw SystemFailure(code, what + ": " + std::strerror(code), path);
}

std::uint64_t size_of_file(int fd, const std::string& path) {
  struct stat status;
  if (fstat(fd, &status) != 0) fail_io(errno, path, "fstat");
  return static_cast<std::uint64_t>(status.st_size);
}

void write_fully(int fd, std::span<const std::byte> bytes, std::uint64_t offset,
                 const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t put = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail_io(put == 0 ? EIO : errno, path, "cannot write");
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
}

std::size_t read_up_to(int fd, std::span<std::byte> bytes, std::uint64_t offset,
                       const std::string& path) {
  std::size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got =
        pread(fd, bytes.data() + have, bytes.size() - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io(errno, path, "cannot read");
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  return have;
}

std::uint64_t page_cache_bytes(int fd, const std::string& path) {
  // cachestat(2), Linux 6.5: counts a range of any size without mapping it.
  struct {
    std::uint64_t offset = 0, length = 0;
  } range;
  struct {
    std::uint64_t cached = 0, dirty = 0, writeback = 0, evicted = 0, recently_evicted = 0;
  } counts;
  constexpr long kCachestat = 451;
  if (syscall(kCachestat, fd, &range, &counts, 0) == 0) return counts.cached * kPage;

  // Older kernels: mincore over a mapping, a GiB at a time.
  constexpr std::uint64_t kWindow = std::uint64_t{1} << 30;
  const std::uint64_t size = size_of_file(fd, path);
  std::vector<unsigned char> pages(kWindow / kPage);
  std::uint64_t cached = 0;
  for (std::uint64_t at = 0; at < size; at += kWindow) {
    const std::uint64_t length = std::min(kWindow, size - at);
    void* map = mmap(nullptr, length, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(at));
    if (map == MAP_FAILED) break;
    if (mincore(map, length, pages.data()) == 0) {
      for (std::uint64_t i = 0; i < (length + kPage - 1) / kPage; ++i) cached += pages[i] & 1u;
    }
    munmap(map, length);
  }
  return cached * kPage;
}

void sync_directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory =
      slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail_io(errno, directory, "cannot open the directory");
  const int code = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  // Some file systems cannot sync directories.
  if (code != 0 && code != EINVAL) fail_io(code, directory, "cannot sync the directory");
}

}  // namespace tieralloc
