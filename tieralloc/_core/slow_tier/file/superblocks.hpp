// superblocks.hpp: the two superblocks of a file, read and replaced.
//
// Concurrency: one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "slow_tier/file/file_format.hpp"

namespace tieralloc {

class Superblocks {
 public:
  /// `sync` makes earlier writes to the file durable.
  Superblocks(int fd, std::string path, std::function<void()> sync)
      : fd_(fd), path_(std::move(path)), sync_(std::move(sync)) {}

  /// Reads the newest superblock whose tables are inside of the file, and the orders of its tables.
  /// Throws SystemFailure, or std::invalid_argument if there is none or an order is damaged.
  void read();

  const file_format::Directory& directory() const { return directory_; }

  /// Replaces the directory; the generation increases. A failure changes nothing.
  void write(file_format::Directory directory);

 private:
  void read_orders();
  void put(const std::vector<std::byte>& superblock, std::uint64_t at);
  void try_to_put(const std::vector<std::byte>& superblock, std::uint64_t at) noexcept;

  const int fd_;
  const std::string path_;
  const std::function<void()> sync_;
  file_format::Directory directory_;
  std::uint64_t directory_at_ =
      file_format::kSuperblockBytes;  ///< offset of a superblock that contains it
};

/// Whether a superblock of the file says that a store made it, even one damaged since or of a newer
/// version.
bool has_superblock(int fd);

}  // namespace tieralloc
