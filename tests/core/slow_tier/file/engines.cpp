// engines.cpp: each fetch engine, with and without the page cache.
#include <sys/mman.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <random>

#include "base/error.hpp"
#include "base/memory.hpp"
#include "check.hpp"
#include "slow_tier/file/engine.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

constexpr std::size_t kBlock = 4096;

class Listener final : public ReadListener {
 public:
  void on_completions() noexcept override {}
};

/// Pieces of a file and the memory they are read into.
class Reads {
 public:
  explicit Reads(std::size_t count, std::size_t most_blocks = 4)
      : count_(count),
        room_(most_blocks * kBlock),
        memory_(count * room_, "test"),
        ops_(std::make_unique<ReadOp[]>(count)) {}

  void set(std::size_t i, std::uint64_t block, std::size_t blocks) {
    ops_[i].offset = block * kBlock;
    ops_[i].length = static_cast<std::uint32_t>(blocks * kBlock);
    ops_[i].buffer = memory_.data() + i * room_;
  }

  void set_random(std::mt19937_64& random, std::uint64_t blocks_of_file) {
    for (std::size_t i = 0; i < count_; ++i) {
      const std::size_t blocks = 1 + random() % (room_ / kBlock);
      set(i, random() % (blocks_of_file - blocks + 1), blocks);
    }
  }

  std::span<ReadOp> ops() { return {ops_.get(), count_}; }
  std::int32_t result(std::size_t i) const { return ops_[i].result.load(); }

  void check_all_read() const {
    for (std::size_t i = 0; i < count_; ++i) {
      CHECK_EQ(result(i), 0);
      CHECK(ops_[i].done_ns > 0);
      CHECK(is_pattern(ops_[i].buffer, ops_[i].offset, ops_[i].length));
    }
  }

 private:
  std::size_t count_;
  std::size_t room_;
  Region memory_;
  std::unique_ptr<ReadOp[]> ops_;
};

struct Bench {
  std::string engine;
  bool direct;
  TempDir dir;
  std::string path = dir / "file";

  std::unique_ptr<FetchEngine> make(int fd, unsigned depth = 8) const {
    return make_fetch_engine(engine, {fd, direct, depth});
  }
};

/// Calls `body(bench, descriptor of a patterned file)` for each engine that works here, through the
/// page cache and, where the file system can, past it.
void each_engine(std::size_t size, const std::function<void(Bench&, int)>& body) {
  bool any = false;
  for (const std::string& engine : fetch_engine_names()) {
    if (!fetch_engine_refusal(engine).empty()) continue;
    for (bool direct : {false, true}) {
      Bench bench{engine, direct, {}};
      make_patterned_file(bench.path, size);
      const OpenFile file(bench.path, O_RDONLY | (direct ? O_DIRECT : 0));
      if (direct && file.fd() < 0) continue;
      any = true;
      body(bench, file.fd());
    }
  }
  CHECK(any);
}

TEST(engine_reads_the_content_of_the_file) {
  each_engine(100 * kBlock, [](Bench& bench, int fd) {
    std::mt19937_64 random(1);
    const auto engine = bench.make(fd);
    for (std::size_t count : {1, 2, 3, 8, 9, 200}) {
      Reads reads(count);
      reads.set_random(random, 100);
      Listener listener;
      engine->read(reads.ops(), listener);
      reads.check_all_read();
    }
    Listener listener;
    engine->read({}, listener);
  });
}

TEST(engine_wakes_waiters_of_each_read) {
  each_engine(100 * kBlock, [](Bench& bench, int fd) {
    std::mt19937_64 random(3);
    const auto engine = bench.make(fd, 8);
    for (std::size_t round = 0; round < stressed(20); ++round) {
      Reads reads(40);
      reads.set_random(random, 100);
      Listener listener;
      Threads threads;
      for (std::size_t at : {std::size_t{0}, std::size_t{20}, std::size_t{39}}) {
        threads.start([&, at] { CHECK_EQ(reads.ops()[at].wait(), 0); });
      }
      engine->read(reads.ops(), listener);
      threads.join();
    }
  });
}

TEST(engine_reads_more_than_its_queue_depth) {
  each_engine(100 * kBlock, [](Bench& bench, int fd) {
    std::mt19937_64 random(2);
    for (unsigned depth : {1u, 2u, 3u, 64u}) {
      const auto engine = bench.make(fd, depth);
      Reads reads(500, 1);
      reads.set_random(random, 100);
      Listener listener;
      engine->read(reads.ops(), listener);
      reads.check_all_read();
    }
  });
}

TEST(engine_serves_several_threads) {
  each_engine(100 * kBlock, [](Bench& bench, int fd) {
    const auto engine = bench.make(fd, 4);
    Threads threads;
    for (std::uint64_t id = 0; id < 4; ++id) {
      threads.start([&, id] {
        std::mt19937_64 random(id);
        for (std::size_t i = 0; i < stressed(15); ++i) {
          Reads reads(1 + random() % 40, 2);
          reads.set_random(random, 100);
          Listener listener;
          engine->read(reads.ops(), listener);
          reads.check_all_read();
        }
      });
    }
    threads.join();
  });
}

TEST(engine_reports_reads_beyond_the_file) {
  // The last block is there in part: a file that was cut short anywhere.
  for (std::size_t size : {10 * kBlock, 10 * kBlock + 512, 10 * kBlock + 100}) {
    each_engine(size, [](Bench& bench, int fd) {
      const auto engine = bench.make(fd);
      Reads reads(6);
      reads.set(0, 0, 4);
      reads.set(1, 8, 4);   // across the end
      reads.set(2, 10, 1);  // at the end
      reads.set(3, 9, 1);
      reads.set(4, 1000, 2);  // far behind it
      reads.set(5, 6, 4);
      Listener listener;
      engine->read(reads.ops(), listener);
      for (std::size_t bad : {1, 2, 4}) CHECK_EQ(reads.result(bad), -ENODATA);
      for (std::size_t good : {0, 3, 5}) {
        CHECK_EQ(reads.result(good), 0);
        const ReadOp& op = reads.ops()[good];
        CHECK(is_pattern(op.buffer, op.offset, op.length));
      }
    });
  }
}

TEST(engine_reports_an_unreadable_descriptor) {
  each_engine(10 * kBlock, [](Bench& bench, int) {
    const OpenFile write_only(bench.path, O_WRONLY);
    for (int fd : {-1, write_only.fd()}) {
      const auto engine = bench.make(fd);
      Reads reads(20, 1);
      std::mt19937_64 random(3);
      reads.set_random(random, 10);
      Listener listener;
      engine->read(reads.ops(), listener);
      // mmap says of a descriptor open for writing alone that access is denied.
      const int other = fd >= 0 && bench.engine == "mmap" ? EACCES : EBADF;
      for (std::size_t i = 0; i < 20; ++i) CHECK_EQ(reads.result(i), -other);
    }
  });
}

TEST(buffered_reads_drop_their_pages) {
  each_engine(256 * kBlock, [](Bench& bench, int fd) {
    if (bench.direct) return;
    fdatasync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    const auto engine = bench.make(fd);
    Reads reads(64, 1);
    for (std::size_t i = 0; i < 64; ++i) reads.set(i, 4 * i, 1);
    Listener listener;
    engine->read(reads.ops(), listener);
    reads.check_all_read();
    Region window(kBlock, "test");
    std::size_t cached = 0;
    void* map = mmap(nullptr, 256 * kBlock, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    std::vector<unsigned char> pages(256);
    CHECK_EQ(mincore(map, 256 * kBlock, pages.data()), 0);
    for (unsigned char page : pages) cached += page & 1u;
    munmap(map, 256 * kBlock);
    // A page that another thread has just brought in may stay.
    CHECK(cached < 32);
  });
}

TEST(engine_is_chosen_by_name) {
  const std::vector<std::string> names = fetch_engine_names();
  CHECK(names == (std::vector<std::string>{"io_uring", "pread", "mmap"}));
  CHECK_EQ(fetch_engine_refusal("pread"), "");
  CHECK_EQ(std::string(make_fetch_engine("pread", {})->name()), "pread");
  const bool uring = fetch_engine_refusal("io_uring").empty();
  TempDir dir;
  make_patterned_file(dir / "f", 100);  // less than the block of the trial
  const OpenFile file(dir / "f", O_RDONLY);
  const auto chosen = [&](const std::string& name, unsigned depth) {
    return std::string(choose_fetch_engine(name, {file.fd(), false, depth})->name());
  };
  CHECK_EQ(chosen("auto", 8), uring ? "io_uring" : "pread");
  CHECK_EQ(chosen("mmap", 8), "mmap");
  CHECK_THROWS(std::invalid_argument, make_fetch_engine("aio", {}),
               "engine: unknown; expected one of auto, io_uring, pread, mmap, got 'aio'");
  // A depth that no ring can have: refused by name, passed over by "auto".
  if (uring) {
    CHECK_THROWS(SystemFailure, chosen("io_uring", 0), "'auto' selects one");
  }
  CHECK_EQ(chosen("auto", 0), "pread");
}

TEST(engine_that_cannot_read_is_not_chosen) {
  TempDir dir;
  make_patterned_file(dir / "f", kBlock);
  const OpenFile write_only(dir / "f", O_WRONLY);
  for (const std::string& name : fetch_engine_names()) {
    if (!fetch_engine_refusal(name).empty()) continue;
    CHECK_THROWS(SystemFailure, choose_fetch_engine(name, {write_only.fd(), false, 8}),
                 name + " cannot read a file here");
  }
  CHECK_THROWS(SystemFailure, choose_fetch_engine("auto", {write_only.fd(), false, 8}),
               "cannot read a file here");
}

TEST(engine_ends_with_idle_threads) {
  for (const std::string& name : fetch_engine_names()) {
    if (!fetch_engine_refusal(name).empty()) continue;
    for (int i = 0; i < 20; ++i) make_fetch_engine(name, {});
  }
}

}  // namespace
