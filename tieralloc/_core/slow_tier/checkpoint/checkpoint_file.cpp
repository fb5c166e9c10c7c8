// checkpoint_file.cpp: opens the file, and compares its state with the stamp.
#include "slow_tier/checkpoint/checkpoint_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/error.hpp"
#include "slow_tier/file/direct_io.hpp"
#include "slow_tier/file/file_io.hpp"

namespace tieralloc {
namespace {

std::int64_t modified_ns(const struct stat& status) {
  return std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

}  // namespace

CheckpointFile::CheckpointFile(std::string path, const FileStamp& stamp, bool direct)
    : path_(std::move(path)), stamp_(stamp) {
  // Without O_NONBLOCK, the open of a pipe with this path would wait for a writer.
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail_io(errno, path_, "cannot open the checkpoint");
  try {
    reads_.fd = fd;
    if (check() != 0) {
      throw SystemFailure(ESTALE, "file changed while it was opened; open the store again", path_);
    }
    const ReadDescriptor reads = open_for_reads(fd, path_, direct, false);
    reads_ = {reads.fd, reads.direct};
    refusal_ = reads.refusal;
  } catch (...) {
    close(fd);
    throw;
  }
  close(fd);
}

CheckpointFile::~CheckpointFile() {
  close(reads_.fd);
}

std::int32_t CheckpointFile::check() const {
  struct stat status;
  if (fstat(reads_.fd, &status) != 0) return -errno;
  if (static_cast<std::uint64_t>(status.st_size) < stamp_.bytes) return -ENODATA;
  const bool is_same = status.st_nlink > 0 && status.st_ino == stamp_.inode &&
                       static_cast<std::uint64_t>(status.st_size) == stamp_.bytes &&
                       modified_ns(status) == stamp_.modified_ns;
  return is_same ? 0 : -ESTALE;
}

std::uint64_t CheckpointFile::cached_bytes() const {
  return page_cache_bytes(reads_.fd, path_);
}

}  // namespace tieralloc
