// joined_pool.hpp: a slow pool whose rows consist of rows of several tables of a checkpoint, side
// by side: weights and their scales, which lie apart.
//
// A row has no bytes of its own: its address is its number times its size, in a file number of its
// table. A read of rows becomes one batch of reads of their parts:
//
//   read:  per operation, per row, per part: add the part's row to a batch (fetch_batch.hpp)
//          read the batch of all operations at once: blocks that several parts need are read once
//          per operation whose parts are complete: copy the parts side by side, finish it
//
// Concurrency: any number of threads. Immutable, but for buffers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/buffers.hpp"
#include "slow_tier/checkpoint/checkpoint_pool.hpp"

namespace tieralloc {

class FetchBatch;

struct JoinedTable {
  std::string name;
  std::vector<std::uint32_t> parts;  ///< positions of tables, in the order of a row's bytes
  DType dtype = DType::bytes;        ///< of rows of several parts
  std::uint32_t dim = 0;             ///< unless they are bytes
};

class JoinedPool final : public SlowPool {
 public:
  /// Rows of one part are as they are. Throws std::invalid_argument if parts have other numbers of
  /// rows, or a row is too long, or has not the bytes of its dtype.
  JoinedPool(std::unique_ptr<CheckpointPool> parts, const std::vector<JoinedTable>& tables);

  std::vector<TableLayout> tables() const override { return tables_; }
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  std::string describe(std::uint64_t page) const override;
  /// Of the first part of the row.
  FilePlace place_of(std::uint64_t offset) const override;
  std::size_t block() const override { return 1; }
  std::string kind() const override { return parts_->kind(); }
  std::string path() const override { return parts_->path(); }
  std::string engine() const override { return parts_->engine(); }
  std::uint64_t bytes() const override { return parts_->bytes(); }
  std::uint64_t cached_bytes() const override { return parts_->cached_bytes(); }
  std::uint64_t buffer_bytes() const override { return buffers_.bytes(); }

  TableLayout add_table(TableLayout layout) override { return parts_->add_table(layout); }
  void remove_table(const TableLayout& table) override { parts_->remove_table(table); }
  TableLayout prepare_growth(const TableLayout& table, std::uint64_t rows) override {
    return parts_->prepare_growth(table, rows);
  }
  void grow_table(const TableLayout& table, const TableLayout& grown) override {
    parts_->grow_table(table, grown);
  }
  void update(const TableLayout& table, std::span<const TableRow> rows,
              const std::byte* values) override {
    parts_->update(table, rows, values);
  }
  void load(const TableLayout& table, TableRow first, std::uint64_t rows,
            const std::byte* values) override {
    parts_->load(table, first, rows, values);
  }
  void free_space(const TableLayout& former) noexcept override { (void)former; }
  void sync() override {}

 private:
  struct Rows {
    std::uint64_t table = 0;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };

  TableLayout layout_of(const JoinedTable& table, std::size_t position) const;
  Rows rows_of(std::uint64_t offset, std::uint64_t length) const;
  void join(const Rows& rows, FetchBatch& batch, std::uint32_t first_item, ReadOp& op) const;

  const std::unique_ptr<CheckpointPool> parts_;
  const std::vector<TableLayout> part_tables_;
  std::vector<std::vector<std::uint32_t>> parts_of_;  ///< by table
  std::vector<TableLayout> tables_;
  BufferPool buffers_;
};

}  // namespace tieralloc
