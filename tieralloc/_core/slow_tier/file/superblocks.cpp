// superblocks.cpp: one superblock is valid at any time.
#include "slow_tier/file/superblocks.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <stdexcept>
#include <utility>

#include "base/error.hpp"
#include "slow_tier/file/file_io.hpp"
#include "slow_tier/file/order_area.hpp"

namespace tieralloc {
namespace {

constexpr std::uint64_t kPlaces[] = {0, file_format::kSuperblockBytes};

std::string describe_end(const file_format::Directory& directory) {
  return "table '" + directory.by_offset().back().name + "' ends at " +
         std::to_string(directory.end());
}

}  // namespace

void Superblocks::read() {
  std::vector<std::byte> both(file_format::kDataOffset);
  const std::size_t got = read_up_to(fd_, both, 0, path_);
  posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  const std::uint64_t size = size_of_file(fd_, path_);
  std::uint32_t version = 0;
  std::optional<file_format::Directory> best, truncated;
  for (const std::uint64_t at : kPlaces) {
    if (got <= at) continue;
    const std::size_t length = std::min<std::uint64_t>(file_format::kSuperblockBytes, got - at);
    version = std::max(version, file_format::version_of(both.data() + at, length));
    if (const std::string table = file_format::unknown_dtype(both.data() + at, length);
        !table.empty()) {
      throw std::invalid_argument(path_ + ": " + table + ", this tieralloc knows dtypes up to " +
                                  std::to_string(kNumDTypes) + "; upgrade tieralloc");
    }
    file_format::Directory candidate;
    if (!file_format::decode(both.data() + at, length, candidate)) continue;
    if (candidate.end() > size && !candidate.tables.empty()) {
      truncated = std::move(candidate);
    } else if (!best || candidate.generation > best->generation) {
      best = std::move(candidate);
      directory_at_ = at;
    }
  }
  if (best) {
    directory_ = std::move(*best);
    read_orders();
    return;
  }
  if (truncated) {
    throw std::invalid_argument(path_ + ": truncated: " + std::to_string(size) + " bytes, but " +
                                describe_end(*truncated));
  }
  if (version > file_format::kVersion) {
    throw std::invalid_argument(path_ + ": file format version " + std::to_string(version) +
                                ", this tieralloc reads up to version " +
                                std::to_string(file_format::kVersion) + "; upgrade tieralloc");
  }
  throw std::invalid_argument(path_ +
                              ": not a tieralloc file, or its header is damaged (no superblock "
                              "with a valid magic number and checksum)");
}

void Superblocks::read_orders() {
  for (TableLayout& table : directory_.tables) {
    if (table.arranged_pages == 0) continue;
    table.order = file_format::read_order(fd_, path_, table);
    if (table.order != nullptr) continue;
    throw std::invalid_argument(path_ + ": table '" + table.name +
                                "': both copies of its order are damaged; expected one that says "
                                "where its rows are");
  }
}

/// Writes the older or damaged superblock first, then the other one.
void Superblocks::write(file_format::Directory directory) {
  directory.generation = directory_.generation + 1;
  const std::vector<std::byte> bytes = file_format::encode(directory);
  const std::uint64_t first = file_format::kSuperblockBytes - directory_at_;
  try {
    put(bytes, first);
  } catch (...) {
    // The failed write may have reached the disk: overwrite it with the old directory.
    try_to_put(file_format::encode(directory_), first);
    throw;
  }
  directory_ = std::move(directory);
  // The first superblock is valid, whatever happens to the second.
  try_to_put(bytes, std::exchange(directory_at_, first));
}

void Superblocks::put(const std::vector<std::byte>& superblock, std::uint64_t at) {
  write_fully(fd_, superblock, at, path_);
  sync_();
}

void Superblocks::try_to_put(const std::vector<std::byte>& superblock, std::uint64_t at) noexcept {
  try {
    put(superblock, at);
  } catch (const SystemFailure&) {
  }
}

bool has_superblock(int fd) {
  for (const std::uint64_t at : kPlaces) {
    std::byte header[64];
    const ssize_t got = pread(fd, header, sizeof header, static_cast<off_t>(at));
    if (got > 0 && file_format::version_of(header, static_cast<std::size_t>(got)) != 0) return true;
  }
  return false;
}

}  // namespace tieralloc
