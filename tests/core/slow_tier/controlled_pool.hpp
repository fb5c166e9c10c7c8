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
  /// Called before a write; what it throws, the write throws.
  std::function<void(std::uint64_t offset, std::size_t size)> before_write;
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
  void read(std::span<tieralloc::ReadOp> ops, tieralloc::ReadListener& listener) override {
    read_ops += ops.size();
    if (before_read) before_read(ops);
    pool_->read(ops, listener);
  }
  void write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    if (before_write) before_write(offset, bytes.size());
    pool_->write(offset, bytes);
  }
  void sync() override { pool_->sync(); }
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
