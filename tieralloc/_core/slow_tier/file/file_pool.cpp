// file_pool.cpp: locks, reads, grows and writes the file.
#include "slow_tier/file/file_pool.hpp"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <stdexcept>
#include <utility>

#include "base/error.hpp"
#include "base/fork_guard.hpp"
#include "base/types.hpp"
#include "slow_tier/file/direct_io.hpp"
#include "slow_tier/file/file_identity.hpp"
#include "slow_tier/file/file_io.hpp"
#include "slow_tier/file/lock_holder.hpp"

namespace tieralloc {
namespace {

/// The buffered descriptor of a file, locked against all other stores, or, to read, against
/// writers.
int open_locked(const std::string& path, bool read_only = false) {
  for (;;) {
    const int fd = open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0) fail_io(errno, path, "cannot open the slow tier");
    if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
      const int code = errno;
      const std::string holders = describe_lock_holders(fd);
      close(fd);
      if (code != EWOULDBLOCK) fail_io(code, path, "cannot lock the slow tier");
      throw SystemFailure(
          code, "file is open in another store: " + holders + "; close that one first", path);
    }
    if (is_same_file(fd, path)) return fd;
    close(fd);  // another store replaced the file before this one locked it
  }
}

/// A new locked file in the directory of `path`, and its name.
std::pair<int, std::string> make_beside(const std::string& path) {
  for (int number = 0;; ++number) {
    const std::string name =
        path + ".new-" + std::to_string(getpid()) + "-" + std::to_string(number);
    const int fd = open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) fail_io(errno, path, "cannot create the slow tier");
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return {fd, name};
    const int code = errno;
    close(fd);
    unlink(name.c_str());
    fail_io(code, path, "cannot lock the slow tier");
  }
}

/// Renames a file. Throws SystemFailure with EEXIST if `to` exists and is not to be replaced.
void rename_file(const std::string& from, const std::string& to, bool replace) {
  const unsigned flags = replace ? 0 : RENAME_NOREPLACE;
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0) return;
  // File systems that lack the flag, such as NFS, have hard links.
  if (errno == EINVAL && !replace && link(from.c_str(), to.c_str()) == 0) {
    unlink(from.c_str());
    return;
  }
  if (errno == EEXIST) throw SystemFailure(EEXIST, "file exists", to);
  fail_io(errno, to, "cannot create the slow tier");
}

std::uint64_t random_id() {
  std::random_device random;
  return std::uint64_t{random()} << 32 | random();
}

/// A file without write permission is refused even for root, because its owner intended that.
void refuse_read_only(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) == 0 && (status.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)) == 0) {
    throw SystemFailure(EACCES, "file is read-only; open it with mode 'r'", path);
  }
}

/// The path itself if the working directory is gone.
std::string absolute_of(const std::string& path) {
  std::error_code failed;
  const auto absolute = std::filesystem::absolute(path, failed);
  return failed ? path : absolute.string();
}

}  // namespace

FilePool::FilePool(std::string path, int fd, const FilePoolOptions& options, bool read_only)
    : path_(std::move(path)),
      absolute_path_(absolute_of(path_)),
      options_(options),
      fd_(fd),
      read_only_(read_only),
      superblocks_(fd, path_, [this] { sync_pages(); }) {
  close_in_child(fd_);
  // No read-ahead: it would cache other rows, and make data of holes.
  posix_fadvise(fd_, 0, 0, POSIX_FADV_RANDOM);
}

FilePool::~FilePool() {
  engine_.reset();
  if (read_fd_ >= 0) close(read_fd_);
  forget_in_child(fd_);
  close(fd_);
}

std::unique_ptr<FilePool> FilePool::open_as(FileMode mode, const std::string& path,
                                            const FilePoolOptions& options) {
  switch (mode) {
    case FileMode::read:
    case FileMode::update:
      return open(path, options, mode == FileMode::read);
    case FileMode::write:
    case FileMode::append:
      break;
  }
  try {
    return mode == FileMode::write ? replace(path, options) : open(path, options);
  } catch (const SystemFailure& failure) {
    if (failure.code != ENOENT) throw;
  }
  try {
    return create(path, options);
  } catch (const SystemFailure& failure) {
    if (failure.code != EEXIST || mode == FileMode::write) throw;
  }
  return open(path, options);  // another store made it meanwhile
}

std::unique_ptr<FilePool> FilePool::create(const std::string& path,
                                           const FilePoolOptions& options) {
  return make(path, path, options, nullptr);
}

std::unique_ptr<FilePool> FilePool::open(const std::string& path, const FilePoolOptions& options,
                                         bool read_only) {
  if (!read_only) refuse_read_only(path);
  const int fd = open_locked(path, read_only);
  std::unique_ptr<FilePool> pool(new FilePool(path, fd, options, read_only));
  pool->superblocks_.read();
  pool->check_version();
  pool->end_ = pool->superblocks_.directory().end();
  pool->start_engine(path);
  pool->start_log(path);
  return pool;
}

std::unique_ptr<FilePool> FilePool::replace(const std::string& path,
                                            const FilePoolOptions& options) {
  refuse_read_only(path);
  const struct Descriptor {
    int fd;
    ~Descriptor() { close(fd); }
  } former{open_locked(path)};  // stays locked until the new file has its name
  if (!has_superblock(former.fd)) {
    throw std::invalid_argument(path + ": not a tieralloc file; mode 'w' replaces no other file");
  }
  struct stat status;
  if (fstat(former.fd, &status) != 0) fail_io(errno, path, "fstat");
  // The target of a symbolic link is replaced, not the link.
  return make(path, std::filesystem::canonical(path).string(), options, &status);
}

/// Makes a file that appears at `target` complete and locked; until then another name has it, and
/// a failure changes nothing. `former` describes the file to be replaced, if there is one.
std::unique_ptr<FilePool> FilePool::make(const std::string& path, const std::string& target,
                                         const FilePoolOptions& options,
                                         const struct stat* former) {
  const auto [fd, name] = make_beside(target);
  std::unique_ptr<FilePool> pool(new FilePool(path, fd, options, false));
  try {
    if (former != nullptr && fchmod(fd, former->st_mode & 0777) != 0)
      fail_io(errno, path, "fchmod");
    pool->grow(0, file_format::kDataOffset);
    pool->superblocks_.write({.store_id = random_id(), .tables = {}});
    pool->end_ = file_format::kDataOffset;
    pool->start_engine(name);
    rename_file(name, target, former != nullptr);
    pool->start_log(target);
    sync_directory_of(target);
  } catch (...) {
    unlink(name.c_str());
    throw;
  }
  pool->is_new_ = true;
  return pool;
}

void FilePool::check_writable() const {
  if (read_only_) throw SystemFailure(EACCES, "file was opened with mode 'r'", path_);
}

/// The file's size. Throws if the file was truncated: a write would extend it again, with zeros for
/// the lost rows.
std::uint64_t FilePool::checked_size() const {
  const std::uint64_t size = size_of_file(fd_, path_);
  if (size >= end_) return size;
  throw SystemFailure(EIO,
                      "the slow tier was cut short to " + std::to_string(size) + " bytes of " +
                          std::to_string(end_) + "; nothing is written to it any more",
                      path_);
}

/// Files of version 1 have no checksums and no log.
void FilePool::check_version() const {
  if (superblocks_.directory().version != file_format::kFirstVersion || read_only_) return;
  throw std::invalid_argument(path_ +
                              ": file format version 1 can only be read; open it with mode 'r', or "
                              "convert it: tieralloc upgrade FILE");
}

/// Grows the file from `from` to `to` bytes, with disk blocks if `reserve`. A failure restores its
/// size.
void FilePool::grow(std::uint64_t from, std::uint64_t to) {
  int code = 0;
  if (options_.reserve) {
    const int refused = fallocate(fd_, 0, static_cast<off_t>(from), static_cast<off_t>(to - from));
    if (refused != 0) code = errno;
  }
  // A file system without fallocate cannot reserve blocks: a full disk is an error of later writes.
  if (!options_.reserve || code == EOPNOTSUPP || code == ENOSYS) {
    code = ftruncate(fd_, static_cast<off_t>(to)) == 0 ? 0 : errno;
  }
  if (code == 0) return;
  if (ftruncate(fd_, static_cast<off_t>(from)) != 0) code = errno;
  fail_io(code, path_,
          "cannot grow the slow tier from " + std::to_string(from) + " to " + std::to_string(to) +
              " bytes");
}

/// `name` is that of the file at present.
void FilePool::start_engine(const std::string& name) {
  const ReadDescriptor reads = open_for_reads(fd_, name, options_.direct, !read_only_);
  read_fd_ = reads.fd;
  page_fd_ = reads.direct_writes ? reads.fd : fd_;
  direct_refusal_ = reads.refusal;
  try {
    engine_ =
        choose_fetch_engine(options_.engine, {{read_fd_, reads.direct}, options_.queue_depth});
  } catch (const SystemFailure& failure) {
    throw SystemFailure(failure.code, failure.what(), path_);
  }
}

/// `path` is that of the file itself, not of a link. Reads what an earlier process left in the log.
void FilePool::start_log(const std::string& path) {
  pages_ = std::make_unique<PageWriter>(fd_, page_fd_, path_, *engine_);
  const file_format::Directory& directory = superblocks_.directory();
  if (directory.version == file_format::kFirstVersion) return;
  struct stat status;
  if (fstat(fd_, &status) != 0) fail_io(errno, path_, "fstat");
  log_ = std::make_unique<RedoLog>(
      RedoLog::Options{std::filesystem::canonical(path).string() + ".log-", directory.store_id,
                       status.st_mode & 0777u},
      [this](std::uint64_t first, std::uint64_t last, std::uint64_t version) {
        std::lock_guard lock(directory_mutex_);
        file_format::Directory next = superblocks_.directory();
        next.first_log = first;
        next.last_log = last;
        if (version != 0) next.delta_version = version;
        superblocks_.write(std::move(next));
      });
  log_->replay(directory.first_log, directory.last_log, directory.tables, !read_only_,
               directory.delta_version);
  has_work_ = log_->sealed() != nullptr;
  if (directory.fresh_end == 0 || read_only_) return;
  pages_->clear_torn(directory.fresh_begin, directory.fresh_end, directory.by_offset(),
                     log_->sealed().get());
  end_fresh();
}

std::vector<TableLayout> FilePool::tables() const {
  std::lock_guard lock(directory_mutex_);
  return superblocks_.directory().tables;
}

std::vector<TableLayout> FilePool::tables_by_offset() const {
  std::lock_guard lock(directory_mutex_);
  return superblocks_.directory().by_offset();
}

std::uint64_t FilePool::store_id() const {
  std::lock_guard lock(directory_mutex_);
  return superblocks_.directory().store_id;
}

std::string FilePool::describe(std::uint64_t page) const {
  return describe_page(tables_by_offset(), page);
}

void FilePool::read(std::span<ReadOp> ops, ReadListener& listener) {
  engine_->read(ops, listener);
}

void FilePool::write_out(std::uint64_t begin, std::uint64_t bytes, unsigned flags) {
  std::lock_guard syncing(sync_mutex_);  // `sync_pages` in another thread must see the failure
  const int done =
      sync_file_range(fd_, static_cast<off_t>(begin), static_cast<off_t>(bytes), flags);
  // The kernel reports a failed write once per descriptor.
  if (done != 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT)) lost_ = errno;
}

void FilePool::drop_caches() {
  write_out(0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
}

void FilePool::check_present() const {
  if (read_only_) return;
  try {
    check_named(fd_, absolute_path_);
  } catch (const SystemFailure& failure) {
    throw SystemFailure(failure.code, failure.what(), path_);
  }
}

std::string FilePool::engine() const {
  return describe_engine(*engine_, direct_refusal_);
}

std::uint64_t FilePool::bytes() const {
  return size_of_file(fd_, path_);
}

std::uint64_t FilePool::cached_bytes() const {
  return page_cache_bytes(fd_, path_);
}

}  // namespace tieralloc
