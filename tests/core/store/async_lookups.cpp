// Lookups in the background: values, errors, cancelling, and the end of the store.
#include "store/async_lookups.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <random>
#include <vector>

#include "base/error.hpp"
#include "check.hpp"
#include "store/store_bench.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

constexpr std::int64_t kRows = 2000;
constexpr std::size_t kDim = 4;

/// A lookup and its memory.
class Pending {
 public:
  Pending(StoreBench& bench, const Table& table, Rows rows)
      : rows_(std::move(rows)), out_(rows_.size() * kDim, -1), segment_{&table} {
    BagCall call = StoreBench::call_of(&segment_, 1, rows_);
    call.mode = Mode::copy;
    call.bags = rows_.size();
    call.out = reinterpret_cast<std::byte*>(out_.data());
    call.out_stride = kDim * sizeof(double);
    call.out_dtype = DType::float64;
    lookup_ = bench.store().submit(call);
  }
  ~Pending() { lookup_->cancel(); }
  Pending(const Pending&) = delete;

  AsyncLookup& operator*() { return *lookup_; }
  AsyncLookup* operator->() { return lookup_.get(); }

  /// Waits, and checks the rows; returns their versions.
  std::vector<std::uint64_t> take() {
    CHECK(lookup_->wait_for(std::chrono::minutes(1)));
    CHECK_EQ(lookup_->result(), 0);
    std::vector<std::uint64_t> versions;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const Seen seen = seen_in(out_.data() + i * kDim, kDim);
      CHECK_EQ(seen.row, rows_[i]);
      versions.push_back(seen.version);
    }
    return versions;
  }
  bool is_untouched() const {
    return std::all_of(out_.begin(), out_.end(), [](double value) { return value == -1; });
  }

 private:
  Rows rows_;
  std::vector<double> out_;
  TableSegment segment_;
  std::shared_ptr<AsyncLookup> lookup_;
};

/// A table whose rows are on the disk, in a store whose tiers exist: the call that makes them waits
/// for all others.
const Table& add_cold_table(StoreBench& bench) {
  bench.add_table("t", kRows, kDim);
  bench.reopen();
  const Table& table = *bench.store().tables()[0];
  bench.lookup(table, {kRows - 1});
  return table;
}

/// Reads of a store wait until `open`.
class Gate {
 public:
  explicit Gate(StoreBench& bench) {
    bench.pool().before_read = [this](std::span<ReadOp>) {
      ++waiting_;
      wait_until([this] { return is_open_.load(); });
    };
  }
  void open() { is_open_ = true; }
  void wait_for(std::size_t reads) {
    wait_until([&] { return waiting_ >= reads; });
  }
  std::size_t waiting() const { return waiting_; }

 private:
  std::atomic<std::size_t> waiting_{0};
  std::atomic<bool> is_open_{false};
};

TEST(callers_go_on_while_their_lookups_wait_for_the_disk) {
  StoreBench bench(of_rows(100));
  const Table& table = add_cold_table(bench);
  Gate gate(bench);
  std::vector<std::unique_ptr<Pending>> lookups;
  for (std::int64_t i = 0; i < 10; ++i) {
    lookups.push_back(std::make_unique<Pending>(bench, table, rows_from(100 * i, 50)));
  }
  gate.wait_for(AsyncLookups::kMaxThreads);
  for (auto& lookup : lookups) {
    CHECK(!(*lookup)->is_done());
    CHECK(!(*lookup)->wait_for(std::chrono::milliseconds(0)));
  }
  gate.open();
  for (auto& lookup : lookups) lookup->take();
}

TEST(cancelled_lookup_leaves_its_memory_alone) {
  StoreBench bench(of_rows(100));
  const Table& table = add_cold_table(bench);
  Gate gate(bench);
  std::vector<std::unique_ptr<Pending>> served;
  for (std::size_t i = 0; i < AsyncLookups::kMaxThreads; ++i) {
    served.push_back(
        std::make_unique<Pending>(bench, table, Rows{static_cast<std::int64_t>(100 * i)}));
  }
  gate.wait_for(AsyncLookups::kMaxThreads);
  Pending queued(bench, table, {1, 2, 3});
  queued->cancel();
  CHECK(queued->is_done());
  CHECK_THROWS(std::invalid_argument, queued->result(), "cancelled");
  gate.open();
  for (auto& lookup : served) lookup->take();
  Pending(bench, table, {4}).take();
  CHECK(queued.is_untouched());
  CHECK_EQ(gate.waiting(), AsyncLookups::kMaxThreads + 1);
}

TEST(cancel_waits_for_a_lookup_that_is_served) {
  StoreBench bench(of_rows(100));
  const Table& table = add_cold_table(bench);
  Gate gate(bench);
  Pending lookup(bench, table, {7});
  gate.wait_for(1);
  Threads threads;
  std::atomic<bool> is_cancelled{false};
  threads.start([&] {
    lookup->cancel();
    is_cancelled = true;
  });
  CHECK(!lookup->wait_for(std::chrono::milliseconds(20)));
  CHECK(!is_cancelled);
  gate.open();
  threads.join();
  CHECK_EQ(lookup.take(), std::vector<std::uint64_t>{0});
}

TEST(close_serves_the_pending_lookups_first) {
  for (int i = 0; i < 20; ++i) {
    StoreBench bench(of_rows(100));
    const Table& table = bench.add_table("t", kRows, kDim);
    std::vector<std::unique_ptr<Pending>> lookups;
    for (std::int64_t j = 0; j < 40; ++j) {
      lookups.push_back(std::make_unique<Pending>(bench, table, rows_from(j * 40, 40)));
    }
    bench.store().close();
    for (auto& lookup : lookups) {
      CHECK((*lookup)->is_done());
      lookup->take();
    }
    CHECK_THROWS(std::invalid_argument, Pending(bench, table, {1}), "closed");
  }
}

TEST(store_that_could_not_close_accepts_lookups) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("t", kRows, kDim);
  bench.pool().before_write = [] { throw SystemFailure(EIO, "write", {}); };
  CHECK_THROWS(SystemFailure, (bench.store().close(), 0), "write");
  CHECK_EQ(Pending(bench, table, {1}).take(), std::vector<std::uint64_t>{0});
  bench.pool().before_write = nullptr;
}

TEST(errors_of_arguments_are_thrown_at_once_and_those_of_reads_at_the_end) {
  StoreBench bench(of_rows(100));
  const Table& table = add_cold_table(bench);
  CHECK_THROWS(std::out_of_range, Pending(bench, table, {1, kRows}), "2000");
  bench.pool().after_read = [](std::span<ReadOp> ops) {
    for (ReadOp& op : ops) op.result = -EIO;
  };
  Pending failing(bench, table, {1});
  CHECK(failing->wait_for(std::chrono::minutes(1)));
  CHECK_THROWS(SystemFailure, failing->result(), "cannot read");
  CHECK_THROWS(SystemFailure, failing->result(), "cannot read");
  bench.pool().after_read = nullptr;
  CHECK_EQ(Pending(bench, table, {1}).take(), std::vector<std::uint64_t>{0});
}

TEST(submit_waits_while_the_queue_is_full) {
  StoreBench bench(of_rows(10));
  const Table& table = add_cold_table(bench);
  Gate gate(bench);
  constexpr std::size_t kRoom = AsyncLookups::kMaxThreads + AsyncLookups::kMaxQueued;
  std::atomic<std::size_t> submitted{0};
  Threads threads;
  threads.start([&] {
    std::vector<std::unique_ptr<Pending>> lookups;
    for (std::size_t i = 0; i < kRoom + 10; ++i) {
      lookups.push_back(
          std::make_unique<Pending>(bench, table, Rows{static_cast<std::int64_t>(i) % kRows}));
      ++submitted;
    }
    for (auto& lookup : lookups) lookup->take();
  });
  wait_until([&] { return submitted == kRoom; });
  gate.open();
  threads.join();
  CHECK_EQ(submitted.load(), kRoom + 10);
}

TEST(lookups_in_the_background_see_updates_that_returned_before) {
  StoreBench bench(of_rows(64));
  const Table& table = bench.add_table("t", kRows, kDim);
  std::atomic<std::uint64_t> version{0};
  Threads threads;
  threads.start([&] {
    for (std::uint64_t next = 1; next <= stressed(200); ++next) {
      bench.update(table, rows_from(0, 100), next);
      version = next;
    }
    threads.stop();
  });
  for (unsigned seed = 0; seed < 3; ++seed) {
    threads.start([&, seed] {
      std::mt19937_64 random(seed);
      while (!threads.stopped()) {
        const std::uint64_t before = version;
        Pending first(bench, table, rows_from(static_cast<RowId>(random() % 80), 20));
        Pending dropped(bench, table, rows_from(static_cast<RowId>(random() % 80), 20));
        for (const std::uint64_t seen : first.take()) CHECK(seen >= before);
      }
    });
  }
  threads.join();
}

}  // namespace
