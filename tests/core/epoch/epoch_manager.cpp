// epoch_manager.cpp: when retired objects are free, and how guards exclude each other.
#include "epoch/epoch_manager.hpp"

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "check.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

TEST(epoch_ends_with_its_last_reader) {
  EpochManager epochs;
  ReadGuard early(epochs);
  early.begin_read();
  const std::uint64_t epoch = epochs.retire_epoch();
  ReadGuard late(epochs);
  late.begin_read();
  CHECK(epochs.oldest_epoch() <= epoch);
  early.end_read();
  CHECK(epochs.oldest_epoch() > epoch);
  const std::uint64_t second = epochs.retire_epoch();
  CHECK(second > epoch);
  CHECK(epochs.oldest_epoch() <= second);
  late.begin_read();  // a new section
  CHECK(epochs.oldest_epoch() > second);
}

TEST(read_section_ends_with_its_guard) {
  EpochManager epochs;
  std::uint64_t epoch;
  {
    ReadGuard call(epochs);
    call.begin_read();
    epoch = epochs.retire_epoch();
    CHECK(epochs.oldest_epoch() <= epoch);
  }
  CHECK(epochs.oldest_epoch() > epoch);
}

TEST(guard_outside_a_read_section_blocks_no_epoch) {
  EpochManager epochs;
  ReadGuard call(epochs);
  const std::uint64_t epoch = epochs.retire_epoch();
  CHECK(epochs.oldest_epoch() > epoch);
}

/// Objects change places through an atomic, as slots do through the index. An object must keep its
/// content for as long as a reader may read it.
TEST(object_is_not_reused_under_a_reader) {
  struct Object {
    std::uint64_t words[8];
  };
  EpochManager epochs;
  std::vector<std::unique_ptr<Object>> objects;
  for (int i = 0; i < 4; ++i) objects.push_back(std::make_unique<Object>());
  std::atomic<Object*> current{objects[0].get()};
  Threads threads;
  for (int reader = 0; reader < 2; ++reader) {
    threads.start([&] {
      while (!threads.stopped()) {
        ReadGuard call(epochs);
        for (int section = 0; section < 10; ++section) {
          call.begin_read();
          const Object* object = current.load(std::memory_order_acquire);
          const std::uint64_t first = object->words[0];
          for (std::uint64_t word : object->words) CHECK_EQ(word, first);
          call.end_read();
        }
      }
    });
  }
  threads.start([&] {
    std::vector<std::pair<std::uint64_t, Object*>> retired;
    std::vector<Object*> free{objects[1].get(), objects[2].get(), objects[3].get()};
    for (std::uint64_t value = 1; value < stressed(5000) && !threads.stopped(); ++value) {
      while (free.empty()) {
        const std::uint64_t oldest = epochs.oldest_epoch();
        std::erase_if(retired, [&](const auto& entry) {
          if (entry.first >= oldest) return false;
          free.push_back(entry.second);
          return true;
        });
        if (free.empty()) std::this_thread::yield();
      }
      Object* fresh = free.back();
      free.pop_back();
      for (std::uint64_t& word : fresh->words) word = value;
      Object* old = current.exchange(fresh, std::memory_order_seq_cst);
      retired.emplace_back(epochs.retire_epoch(), old);
    }
    threads.stop();
  });
  threads.join();
}

TEST(exclusive_guard_excludes_all_others) {
  EpochManager epochs;
  std::atomic<int> inside{0};
  std::uint64_t plain = 0;  // no atomic: ThreadSanitizer sees whether guards order its uses
  Threads threads;
  for (int caller = 0; caller < 3; ++caller) {
    threads.start([&] {
      for (std::size_t i = 0; i < stressed(3000); ++i) {
        ReadGuard call(epochs);
        ++inside;
        (void)*const_cast<volatile std::uint64_t*>(&plain);
        --inside;
      }
    });
  }
  for (int owner = 0; owner < 2; ++owner) {
    threads.start([&] {
      for (std::size_t i = 0; i < stressed(60); ++i) {
        ExclusiveGuard exclusive(epochs);
        CHECK_EQ(inside.load(), 0);
        ++plain;
        CHECK_EQ(inside.load(), 0);
      }
    });
  }
  threads.join();
  CHECK_EQ(plain, 2 * stressed(60));
}

TEST(more_threads_than_readers_take_turns) {
  EpochManager epochs;
  std::atomic<std::size_t> calls{0};
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  Threads threads;
  for (int i = 0; i < 80; ++i) {
    threads.start([&] {
      for (int repeat = 0; repeat < 3; ++repeat) {
        ReadGuard call(epochs);
        const int now = ++inside;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        ++calls;
        --inside;
      }
    });
  }
  threads.join();
  CHECK_EQ(calls.load(), 240);
  CHECK(most <= static_cast<int>(kMaxReaders));
}

TEST(closed_manager_refuses_guards) {
  EpochManager epochs;
  CHECK(!epochs.is_closed());
  {
    ReadGuard call(epochs);
  }
  epochs.close();
  CHECK(epochs.is_closed());
  CHECK_THROWS(std::invalid_argument, ReadGuard(epochs), "the store is closed");
  ExclusiveGuard exclusive(epochs);  // no reader to wait for
}

TEST(blocked_guard_fails_once_the_manager_closes) {
  EpochManager epochs;
  Threads threads;
  {
    ExclusiveGuard exclusive(epochs);
    for (int i = 0; i < 3; ++i) {
      threads.start([&] { CHECK_THROWS(std::invalid_argument, ReadGuard(epochs), "closed"); });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    epochs.close();
  }
  threads.join();
}

}  // namespace
