// readers.hpp: threads that look up rows of a store until they are ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "policy/fake_model.hpp"
#include "store/store_bench.hpp"

/// Threads look up rows and check them until they are stopped.
class Readers {
 public:
  explicit Readers(StoreBench& bench, std::vector<const tieralloc::Table*> tables, int threads = 3)
      : bench_(bench), tables_(std::move(tables)) {
    for (int id = 0; id < threads; ++id) {
      threads_.start([this, id] {
        std::mt19937_64 random(static_cast<std::uint64_t>(id));
        while (!threads_.stopped()) look_up(random);
      });
    }
  }

  void wait_for(std::uint64_t lookups) {
    const std::uint64_t end = lookups_ + lookups;
    wait_until([&] { return lookups_ >= end || threads_.stopped(); });
  }
  void end() {
    threads_.stop();
    threads_.join();
  }

 private:
  void look_up(std::mt19937_64& random) {
    const tieralloc::Table& table = *tables_[random() % tables_.size()];
    Rows rows;
    for (std::uint64_t n = 1 + random() % 20; n > 0; --n) {
      rows.push_back(static_cast<std::int64_t>(skewed_row(random, table.layout.rows)));
    }
    bench_.lookup(table, rows);
    lookups_ += rows.size();
  }

  StoreBench& bench_;
  std::vector<const tieralloc::Table*> tables_;
  std::atomic<std::uint64_t> lookups_{0};
  Threads threads_;
};
