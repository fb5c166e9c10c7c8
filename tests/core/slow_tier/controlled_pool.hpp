// controlled_pool.hpp: wraps a slow pool, so that a test can observe, delay and fail reads and
// writes.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "slow_tier/slow_pool.hpp"

class ControlledPool final : public tieralloc::SlowPool {
 public:
  /// Called before a batch is read, in its reader's thread; what it throws, the read throws.
  std::function<void(std::span<tieralloc::ReadOp>)> before_read;
  /// Called after the reads of a batch, before its listener.
  std::function<void(std::span<tieralloc::ReadOp>)> after_read;
  /// Called before an update, a load or a write-back, which throws what it throws.
  std::function<void()> before_write;
  /// Called after an update, before its call returns.
  std::function<void()> after_update;
  /// Called before a sync.
  std::function<void()> before_sync;
  /// Called before a table is added.
  std::function<void()> before_add_table;
  std::atomic<std::size_t> read_ops{0};
  mutable std::atomic<std::size_t> passed_lines{0};

  explicit ControlledPool(std::unique_ptr<tieralloc::SlowPool> pool) : pool_(std::move(pool)) {}

  std::vector<tieralloc::TableLayout> tables() const override { return pool_->tables(); }
  tieralloc::TableLayout add_table(tieralloc::TableLayout layout) override {
    if (before_add_table) before_add_table();
    return pool_->add_table(std::move(layout));
  }
  void remove_table(const tieralloc::TableLayout& table) override { pool_->remove_table(table); }
  tieralloc::TableLayout prepare_growth(const tieralloc::TableLayout& table,
                                        std::uint64_t rows) override {
    return pool_->prepare_growth(table, rows);
  }
  void grow_table(const tieralloc::TableLayout& table,
                  const tieralloc::TableLayout& grown) override {
    pool_->grow_table(table, grown);
  }
  void free_space(const tieralloc::TableLayout& table) noexcept override {
    pool_->free_space(table);
  }
  void read(std::span<tieralloc::ReadOp> ops, tieralloc::ReadListener& listener) override {
    read_ops += ops.size();
    if (before_read) before_read(ops);
    if (!after_read) return pool_->read(ops, listener);
    class NoListener final : public tieralloc::ReadListener {
     public:
      void on_completions() noexcept override {}
    } none;
    pool_->read(ops, none);
    after_read(ops);
    listener.on_completions();
  }
  void update(const tieralloc::TableLayout& table, std::span<const tieralloc::TableRow> rows,
              const std::byte* values) override {
    if (before_write) before_write();
    pool_->update(table, rows, values);
    if (after_update) after_update();
  }
  void commit() override { pool_->commit(); }
  std::uint64_t version() const override { return pool_->version(); }
  std::unique_ptr<tieralloc::StagedDelta> begin_delta(
      std::span<const tieralloc::DeltaPart> parts) override {
    return pool_->begin_delta(parts);
  }
  void load(const tieralloc::TableLayout& table, tieralloc::TableRow first, std::uint64_t rows,
            const std::byte* values) override {
    if (before_write) before_write();
    pool_->load(table, first, rows, values);
  }
  bool has_updated_rows() const override { return pool_->has_updated_rows(); }
  bool find_updated(const tieralloc::RowAddress& row, std::span<std::byte> value) const override {
    return pool_->find_updated(row, value);
  }
  std::int32_t recover_page(std::uint64_t page, std::span<std::byte> bytes) override {
    return pool_->recover_page(page, bytes);
  }
  std::string describe(std::uint64_t page) const override { return pool_->describe(page); }
  void settle() override { pool_->settle(); }
  std::vector<std::uint64_t> damaged_pages(const tieralloc::TableLayout& table, std::uint64_t first,
                                           std::uint64_t n) override {
    return pool_->damaged_pages(table, first, n);
  }
  void sync() override {
    if (before_sync) before_sync();
    pool_->sync();
  }
  void write_back() override {
    if (before_write) before_write();
    pool_->write_back();
  }
  void work() override { pool_->work(); }
  void stop() override { pool_->stop(); }
  tieralloc::UpdateStats updates() const override { return pool_->updates(); }
  void drop_caches() override { pool_->drop_caches(); }
  void check_present() const override { pool_->check_present(); }
  std::size_t block() const override { return pool_->block(); }
  std::string kind() const override { return pool_->kind(); }
  std::string path() const override { return pool_->path(); }
  std::string engine() const override { return pool_->engine(); }
  std::uint64_t bytes() const override { return pool_->bytes(); }
  std::uint64_t cached_bytes() const override { return pool_->cached_bytes(); }
  bool in_place() const override { return pool_->in_place(); }
  void emulate_latency(std::size_t lines) const override {
    passed_lines += lines;
    pool_->emulate_latency(lines);
  }
  tieralloc::MemoryTraits memory() const override { return pool_->memory(); }
  tieralloc::Region sample(std::size_t bytes) const override { return pool_->sample(bytes); }

 private:
  std::unique_ptr<tieralloc::SlowPool> pool_;
};
