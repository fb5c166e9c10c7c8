// file_io.cpp: system calls repeated until all bytes are transferred.
#include "slow_tier/file/file_io.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.hpp"

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
