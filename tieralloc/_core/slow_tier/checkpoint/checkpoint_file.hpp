// checkpoint_file.hpp: a file that others wrote, open to read, and whether it still has the bytes
// that were described.
//
// The stamp is that of the file whose header was parsed. A later one says that the file was cut
// short, written, replaced or deleted: the descriptor then has other bytes, or the path has another
// file. A write within the resolution of the file system's clock, some milliseconds, is not seen. A
// file that lost its path but has another link is as it was, and is read on.
//
// Concurrency: any number of threads, after the constructor.
#pragma once

#include <cstdint>
#include <string>

#include "slow_tier/file/engine.hpp"

namespace tieralloc {

/// A file as its parser saw it.
struct FileStamp {
  std::uint64_t inode = 0;
  std::uint64_t bytes = 0;
  std::int64_t modified_ns = 0;  ///< since 1970
};

class CheckpointFile {
 public:
  /// Throws SystemFailure: with ESTALE if the file is not that of the stamp any more.
  CheckpointFile(std::string path, const FileStamp& stamp, bool direct);
  ~CheckpointFile();
  CheckpointFile(const CheckpointFile&) = delete;
  CheckpointFile& operator=(const CheckpointFile&) = delete;

  /// 0, or -ENODATA if the file was cut short, -ESTALE if it changed otherwise. Cost: one fstat.
  std::int32_t check() const;

  const std::string& path() const { return path_; }
  std::uint64_t bytes() const { return stamp_.bytes; }
  std::uint64_t cached_bytes() const;
  ReadFile reads() const { return reads_; }
  /// As ReadDescriptor::refusal.
  const std::string& refusal() const { return refusal_; }

 private:
  const std::string path_;
  const FileStamp stamp_;
  ReadFile reads_;
  std::string refusal_;
};

}  // namespace tieralloc
