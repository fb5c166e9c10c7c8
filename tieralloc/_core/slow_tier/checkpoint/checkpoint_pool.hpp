// checkpoint_pool.hpp: a slow pool over files that others wrote, whose rows are read where they
// are.
//
// A table is one piece of a file, or several pieces, also of several files, in row order: rows of
// one size at one stride, which begin at any byte. An offset of the pool has the number of its file
// (engine.hpp). The files are not written; pages have no footers. Updates go to an overlay, or are
// refused.
//
//   read:  per file of the batch: compare its state with that at the opening; reads of a file that
//          changed fail, those of other files go on as one batch
//
// So a batch that begins after a change fails. The file is not locked.
//
// Concurrency: any number of threads. Immutable, but for the overlay.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "slow_tier/checkpoint/checkpoint_file.hpp"
#include "slow_tier/checkpoint/overlay.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

struct CheckpointOptions {
  std::string name;             ///< of all files, for `stats()`
  std::string engine = "auto";  ///< a name for choose_fetch_engine
  bool direct = true;           ///< bypass the page cache if possible
  unsigned queue_depth = 256;   ///< reads of one call in flight
  std::string overlay{};        ///< path of the file of updates; empty: none are accepted
};

struct CheckpointSource {
  std::string path;
  FileStamp stamp;
};

/// Rows of a table, side by side or with gaps.
struct CheckpointPiece {
  std::uint32_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t rows = 0;
};

struct CheckpointTable {
  std::string name;
  std::uint32_t dim = 0;
  DType dtype = DType::float32;
  std::uint32_t stride = 0;  ///< bytes from one row to the next; 0: rows lie side by side
  std::vector<CheckpointPiece> pieces;
};

class CheckpointPool final : public SlowPool {
 public:
  /// Throws std::invalid_argument if a row lies outside of its file, a size is out of range, or
  /// tables with an overlay share bytes, as Overlay, and SystemFailure as CheckpointFile, Overlay
  /// and choose_fetch_engine do.
  CheckpointPool(const std::vector<CheckpointSource>& files,
                 const std::vector<CheckpointTable>& tables, const CheckpointOptions& options);
  ~CheckpointPool() override;

  std::vector<TableLayout> tables() const override { return tables_; }
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  std::string describe(std::uint64_t page) const override;
  FilePlace place_of(std::uint64_t offset) const override;
  std::size_t block() const override { return kPage; }
  std::string kind() const override { return "checkpoint"; }
  std::string path() const override { return options_.name; }
  std::string engine() const override;
  std::uint64_t bytes() const override;
  std::uint64_t cached_bytes() const override;

  /// Throws SystemFailure with EROFS without an overlay.
  void update(const TableLayout& table, std::span<const TableRow> rows,
              const std::byte* values) override;
  bool has_updated_rows() const override { return overlay_ != nullptr && overlay_->any(); }
  bool find_updated(const RowAddress& row, std::span<std::byte> value) const override {
    return has_updated_rows() && overlay_->find(row.offset(), value);
  }
  void sync() override {
    if (overlay_ != nullptr) overlay_->sync();
  }
  void write_back() override { sync(); }
  UpdateStats updates() const override {
    return overlay_ == nullptr ? UpdateStats{} : overlay_->stats();
  }

  // Other calls that write throw SystemFailure with EROFS.
  TableLayout add_table(TableLayout layout) override;
  void remove_table(const TableLayout& table) override;
  TableLayout prepare_growth(const TableLayout& table, std::uint64_t rows) override;
  void grow_table(const TableLayout& table, const TableLayout& grown) override;
  void load(const TableLayout& table, TableRow first, std::uint64_t rows,
            const std::byte* values) override;
  void free_space(const TableLayout& former) noexcept override { (void)former; }

 private:
  TableLayout layout_of(const CheckpointTable& table) const;
  void check_piece(const CheckpointTable& table, const CheckpointPiece& piece) const;
  void start_engine();
  void start_overlay();
  [[noreturn]] void refuse(const char* call) const;

  const CheckpointOptions options_;
  std::deque<CheckpointFile> files_;
  std::vector<ReadFile> read_files_;  ///< of `files_`, for the engine
  std::vector<TableLayout> tables_;
  std::unique_ptr<FetchEngine> engine_;
  std::unique_ptr<Overlay> overlay_;  ///< may be null
};

}  // namespace tieralloc
