// file_pool.hpp: a slow pool in a file, with a redo log beside it.
//
// Reads bypass the kernel's page cache (O_DIRECT) if the file system permits it; else their pages
// are dropped afterwards. Writes use the page cache, and `drop_caches` drops their pages; the
// kernel keeps both coherent. The file is locked while the pool lives: it has one writer, or any
// number of readers.
//
// An update is in the kernel when the call returns, and on the disk after `sync`, or after
// `sync_interval`. `work` writes full segments of the log to the pages; `load` writes pages itself.
//
// Lock order: write_back_mutex_, append_mutex_ or fresh_mutex_, the log's and the page writer's
// mutexes, directory_mutex_, sync_mutex_, loads_mutex_.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "slow_tier/file/engine.hpp"
#include "slow_tier/file/page_writer.hpp"
#include "slow_tier/file/redo_log.hpp"
#include "slow_tier/file/superblocks.hpp"
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

/// When an update is durable.
enum class Durability {
  none,    ///< at `sync`
  flush,   ///< at `sync`, or after the sync interval
  commit,  ///< when `commit` returns, which follows each update
};

struct FilePoolOptions {
  std::string engine = "auto";  ///< a name for choose_fetch_engine
  bool direct = true;           ///< bypass the page cache if possible
  bool reserve = true;          ///< reserve disk blocks of a table when it is created
  unsigned queue_depth = 256;   ///< reads of one call in flight
  Durability durability = Durability::flush;
  std::chrono::milliseconds sync_interval{5000};
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
  /// Writes all updates back first.
  void remove_table(const TableLayout& table) override;
  /// A table that moves has all its updates written back first.
  TableLayout prepare_growth(const TableLayout& table, std::uint64_t rows) override;
  void grow_table(const TableLayout& table, const TableLayout& grown) override;
  void free_space(const TableLayout& former) noexcept override;
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  void update(const TableLayout& table, std::span<const TableRow> rows,
              const std::byte* values) override;
  void commit() override;
  std::uint64_t version() const override { return log_ == nullptr ? 0 : log_->version(); }
  std::unique_ptr<StagedDelta> begin_delta(std::span<const DeltaPart> parts) override;
  void load(const TableLayout& table, TableRow first, std::uint64_t rows,
            const std::byte* values) override;
  void load_rows(const TableLayout& table, std::span<const TableRow> rows,
                 const std::byte* values) override;
  bool has_updated_rows() const override { return log_ != nullptr && log_->any(); }
  bool find_updated(const RowAddress& row, std::span<std::byte> value) const override;
  std::int32_t recover_page(std::uint64_t page, std::span<std::byte> bytes) override;
  std::vector<std::uint64_t> damaged_pages(const TableLayout& table, std::uint64_t first,
                                           std::uint64_t n) override;
  std::string describe(std::uint64_t page) const override;
  void settle() override;
  void sync() override;
  void write_back() override;
  void work() override;
  void stop() override;
  UpdateStats updates() const override;
  void drop_caches() override;
  /// A pool that only reads has nothing to lose, and passes.
  void check_present() const override;
  std::uint64_t store_id() const override;
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
  void check_version() const;
  void grow(std::uint64_t from, std::uint64_t to);

  // table_space.cpp
  void take_space(TableLayout& layout);
  bool take_gap(TableLayout& layout);
  void reserve_blocks(std::uint64_t begin, std::uint64_t end);
  bool extend(const TableLayout& table, const TableLayout& grown);
  void release(const TableLayout& former) noexcept;
  void empty_log(const char* call);

  // scan.cpp
  using VisitPage = std::function<void(std::uint64_t page, std::span<std::byte> bytes)>;
  void scan(const TableLayout& table, std::uint64_t first, std::uint64_t n, const VisitPage& visit);
  void copy_pages(const TableLayout& from, std::uint64_t first, std::uint64_t n, std::uint64_t to);
  std::vector<TableLayout> tables_by_offset() const;
  void start_engine(const std::string& name);
  void start_log(const std::string& path);
  std::uint32_t position_of(const TableLayout& table) const;
  void permit_deltas();

  // write_back.cpp
  void sync_pages();
  std::uint64_t write_back_sealed(std::size_t reads_at_once = 32);
  void wake_if_sealed();
  void keep_rows(const LogGeneration& sealed, std::span<const std::uint64_t> rows);
  std::vector<std::size_t> logged_places(const TableLayout& table,
                                         std::span<const TableRow> rows) const;
  void load_in_order(const TableLayout& table, std::span<const TableRow> rows,
                     const std::byte* values);
  void load_part(const TableLayout& table, std::span<const TableRow> rows, const std::byte* values);
  void count_loaded(std::uint64_t begin, std::uint64_t end);
  /// As sync_file_range.
  void write_out(std::uint64_t begin, std::uint64_t bytes, unsigned flags);
  bool load_fresh(const TableLayout& table, std::span<const TableRow> rows,
                  const std::byte* values);
  bool announce_fresh(const TableLayout& table, std::uint64_t begin, std::uint64_t end);
  bool is_fresh(std::uint64_t page) const;
  void end_fresh();

  const std::string path_;
  const std::string absolute_path_;  ///< at the time of opening: the process may change directory
  const FilePoolOptions options_;
  const int fd_;          ///< buffered, for writes of superblocks and pages
  const bool read_only_;  ///< writes are refused
  bool is_new_ = false;
  int read_fd_ = -1;                   ///< direct if possible
  int page_fd_ = -1;                   ///< `read_fd_` if it takes direct writes, or `fd_`
  std::string direct_refusal_;         ///< for `engine`, as in ReadDescriptor
  std::atomic<std::uint64_t> end_{0};  ///< of the last table: the file is at least as long
  mutable std::mutex directory_mutex_;
  Superblocks superblocks_;
  std::unique_ptr<FetchEngine> engine_;
  std::unique_ptr<PageWriter> pages_;
  std::unique_ptr<RedoLog> log_;  ///< null: version 1

  std::mutex write_back_mutex_;     ///< one write-back at a time
  std::mutex append_mutex_;         ///< one update of the log at a time
  std::uint64_t loaded_bytes_ = 0;  ///< since the page cache was dropped

  std::mutex sync_mutex_;  ///< of the pages
  std::atomic<std::uint64_t> failed_syncs_{0};
  std::atomic<int> lost_{0};  ///< errno of a failed write that drop_caches found, for `sync_pages`

  std::mutex loads_mutex_;
  /// `failed_syncs_` before the first load that is not durable yet.
  std::optional<std::uint64_t> failed_before_load_;
  std::mutex fresh_mutex_;        ///< of the announced pages, until they are written
  std::uint64_t fresh_from_ = 0;  ///< announced pages before this one were written

  mutable std::mutex stats_mutex_;
  UpdateStats stats_;

  std::mutex work_mutex_;
  std::condition_variable wake_;
  bool is_stopping_ = false;
  bool has_work_ = false;
};

}  // namespace tieralloc
