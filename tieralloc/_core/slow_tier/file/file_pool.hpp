// file_pool.hpp: a slow pool in a file.
//
// Reads bypass the kernel's page cache (O_DIRECT) if the file system permits it; else their pages
// are dropped afterwards. Writes use the page cache, and `drop_caches` drops their pages; the
// kernel keeps both coherent. The file is locked while the pool lives: it has one writer, or any
// number of readers.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "slow_tier/file/engine.hpp"
#include "slow_tier/file/file_format.hpp"
#include "slow_tier/slow_pool.hpp"

struct stat;

namespace tieralloc {

/// As of Python's `open`.
enum class FileMode {
  read,    ///< "r": opens, to read; other readers may have it open
  update,  ///< "r+": opens
  append,  ///< "a": opens, or makes a missing file
  write,   ///< "w": makes; replaces a store's file
};

struct FilePoolOptions {
  std::string engine = "auto";  ///< a name for choose_fetch_engine
  bool direct = true;           ///< bypass the page cache if possible
  bool reserve = true;          ///< reserve disk blocks of a table when it is created
  unsigned queue_depth = 256;   ///< reads of one call in flight
};

class FilePool final : public SlowPool {
 public:
  /// Opens or makes a file. Each failure leaves the path as it was, so that a file is complete or
  /// missing whenever the process ends; a killed process may leave a file `path.new-PID-NUMBER`.
  /// SystemFailure with EWOULDBLOCK if another store has it open; std::invalid_argument if `write`
  /// would replace a file of another kind; else as `open`.
  static std::unique_ptr<FilePool> open_as(FileMode mode, const std::string& path,
                                           const FilePoolOptions& options);

  /// Makes a file; SystemFailure with EEXIST if it exists.
  static std::unique_ptr<FilePool> create(const std::string& path, const FilePoolOptions& options);

  /// Opens a file that `create` made. SystemFailure, or std::invalid_argument if it is not such a
  /// file, is truncated or of a newer version; nothing is changed then.
  static std::unique_ptr<FilePool> open(const std::string& path, const FilePoolOptions& options,
                                        bool read_only = false);

  ~FilePool() override;

  std::vector<TableLayout> tables() const override;
  TableLayout add_table(TableLayout layout) override;
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  void write(std::uint64_t offset, std::span<const std::byte> bytes) override;
  void sync() override;
  void drop_caches() override;
  /// A pool that only reads has nothing to lose, and passes.
  void check_present() const override;
  std::size_t block() const override { return kBlock; }
  std::string kind() const override { return "file"; }
  std::string path() const override { return path_; }
  std::string engine() const override;
  std::uint64_t bytes() const override;
  std::uint64_t cached_bytes() const override;

  /// Whether this pool made its file.
  bool is_new() const { return is_new_; }

 private:
  // Files that need a larger alignment are read through the page cache (direct_io.hpp).
  static constexpr std::size_t kBlock = kPage;

  FilePool(std::string path, int fd, const FilePoolOptions& options, bool read_only);

  static std::unique_ptr<FilePool> replace(const std::string& path, const FilePoolOptions& options);
  static std::unique_ptr<FilePool> make(const std::string& path, const std::string& target,
                                        const FilePoolOptions& options, const struct stat* former);
  void check_writable() const;
  std::uint64_t checked_size() const;
  void read_directory();
  void write_directory(const file_format::Directory& directory);
  void grow(std::uint64_t from, std::uint64_t to);
  void start_engine(const std::string& name);

  const std::string path_;
  const std::string absolute_path_;  ///< at the time of opening: the process may change directory
  const FilePoolOptions options_;
  const int fd_;          ///< buffered, for writes of header and rows
  const bool read_only_;  ///< writes are refused
  bool is_new_ = false;
  int read_fd_ = -1;                   ///< direct if possible
  std::string direct_refusal_;         ///< for `engine`, as in ReadDescriptor
  std::atomic<std::uint64_t> end_{0};  ///< of the last table: the file is at least as long
  std::atomic<int> lost_{0};  ///< errno of a failed write that drop_caches found, for `sync`
  mutable std::mutex mutex_;  ///< of the directory
  file_format::Directory directory_;
  std::uint64_t directory_at_ =
      file_format::kSuperblockBytes;  ///< offset of a superblock that contains it
  std::unique_ptr<FetchEngine> engine_;
};

}  // namespace tieralloc
