// call_gate.cpp: who is inside, what they may read, and who is alone.
#include "epoch/call_gate.hpp"

#include <atomic>
#include <memory>
#include <vector>

#include "check.hpp"
#include "store/call_scratch.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

TEST(what_is_retired_is_free_once_every_earlier_reader_is_gone) {
  CallGate gate;
  CallGate::Call early(gate);
  early.begin_read();
  const std::uint64_t stamp = gate.retire_stamp();
  CallGate::Call late(gate);
  late.begin_read();
  CHECK(gate.oldest_read() <= stamp);
  early.end_read();
  CHECK(gate.oldest_read() > stamp);
  const std::uint64_t second = gate.retire_stamp();
  CHECK(second > stamp);
  CHECK(gate.oldest_read() <= second);
  late.begin_read();  // a new section
  CHECK(gate.oldest_read() > second);
}

TEST(a_call_that_ends_reads_no_more) {
  CallGate gate;
  std::uint64_t stamp;
  {
    CallGate::Call call(gate);
    call.begin_read();
    stamp = gate.retire_stamp();
    CHECK(gate.oldest_read() <= stamp);
  }
  CHECK(gate.oldest_read() > stamp);
}

TEST(a_call_that_reads_nothing_holds_nothing_up) {
  CallGate gate;
  CallGate::Call call(gate);
  const std::uint64_t stamp = gate.retire_stamp();
  CHECK(gate.oldest_read() > stamp);
}

/// Two cells change places through an atomic, as slots do through the index. A reader must find the
/// one it was led to as it was for as long as it reads.
TEST(nothing_is_used_again_under_a_reader) {
  struct Cell {
    std::uint64_t words[8];
  };
  CallGate gate;
  std::vector<std::unique_ptr<Cell>> cells;
  for (int i = 0; i < 4; ++i) cells.push_back(std::make_unique<Cell>());
  std::atomic<Cell*> current{cells[0].get()};
  Threads threads;
  for (int reader = 0; reader < 2; ++reader) {
    threads.start([&] {
      while (!threads.stopped()) {
        CallGate::Call call(gate);
        for (int section = 0; section < 10; ++section) {
          call.begin_read();
          const Cell* cell = current.load(std::memory_order_acquire);
          const std::uint64_t first = cell->words[0];
          for (std::uint64_t word : cell->words) CHECK_EQ(word, first);
          call.end_read();
        }
      }
    });
  }
  threads.start([&] {
    std::vector<std::pair<std::uint64_t, Cell*>> retired;
    std::vector<Cell*> free{cells[1].get(), cells[2].get(), cells[3].get()};
    for (std::uint64_t value = 1; value < stressed(5000) && !threads.stopped(); ++value) {
      while (free.empty()) {
        const std::uint64_t oldest = gate.oldest_read();
        std::erase_if(retired, [&](const auto& entry) {
          if (entry.first >= oldest) return false;
          free.push_back(entry.second);
          return true;
        });
        if (free.empty()) std::this_thread::yield();
      }
      Cell* fresh = free.back();
      free.pop_back();
      for (std::uint64_t& word : fresh->words) word = value;
      Cell* old = current.exchange(fresh, std::memory_order_seq_cst);
      retired.emplace_back(gate.retire_stamp(), old);
    }
    threads.stop();
  });
  threads.join();
}

TEST(an_exclusive_is_alone) {
  CallGate gate;
  std::atomic<int> inside{0};
  std::uint64_t plain = 0;  // no atomic: ThreadSanitizer sees whether the gate orders its uses
  Threads threads;
  for (int caller = 0; caller < 3; ++caller) {
    threads.start([&] {
      for (std::size_t i = 0; i < stressed(3000); ++i) {
        CallGate::Call call(gate);
        ++inside;
        (void)*const_cast<volatile std::uint64_t*>(&plain);
        --inside;
      }
    });
  }
  for (int owner = 0; owner < 2; ++owner) {
    threads.start([&] {
      for (std::size_t i = 0; i < stressed(60); ++i) {
        CallGate::Exclusive alone(gate);
        CHECK_EQ(inside.load(), 0);
        ++plain;
        CHECK_EQ(inside.load(), 0);
      }
    });
  }
  threads.join();
  CHECK_EQ(plain, 2 * stressed(60));
}

TEST(more_threads_than_cells_take_turns) {
  CallGate gate;
  std::atomic<std::size_t> calls{0};
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  Threads threads;
  for (int i = 0; i < 80; ++i) {
    threads.start([&] {
      for (int repeat = 0; repeat < 3; ++repeat) {
        CallGate::Call call(gate);
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
  CHECK(most <= 64);
}

TEST(two_calls_never_share_their_buffers) {
  CallGate gate;
  Threads threads;
  for (int id = 0; id < 4; ++id) {
    threads.start([&, id] {
      for (std::size_t i = 0; i < stressed(2000); ++i) {
        CallGate::Call call(gate);
        call.scratch().rows.assign(10, static_cast<RowId>(id));
        call.meters().calls.add(1);
        std::this_thread::yield();
        for (RowId row : call.scratch().rows) CHECK_EQ(row, id);
      }
    });
  }
  threads.join();
  std::uint64_t calls = 0;
  gate.each_cell([&](const CallCell& cell) { calls += cell.meters->calls.get(); });
  CHECK_EQ(calls, 4 * stressed(2000));
}

TEST(a_closed_gate_lets_nobody_in) {
  CallGate gate;
  CHECK(!gate.closed());
  {
    CallGate::Call call(gate);
  }
  gate.close();
  CHECK(gate.closed());
  CHECK_THROWS(std::invalid_argument, CallGate::Call(gate), "the store is closed");
  CallGate::Exclusive alone(gate);  // nobody to wait for
}

TEST(callers_that_an_exclusive_holds_off_learn_that_the_gate_is_closed) {
  CallGate gate;
  Threads threads;
  {
    CallGate::Exclusive alone(gate);
    for (int i = 0; i < 3; ++i) {
      threads.start([&] { CHECK_THROWS(std::invalid_argument, CallGate::Call(gate), "closed"); });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    gate.close();
  }
  threads.join();
}

}  // namespace
