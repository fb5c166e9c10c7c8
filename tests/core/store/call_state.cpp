// call_state.cpp: calls at the same time have states of their own.
#include "store/call_state.hpp"

#include <thread>

#include "check.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

TEST(concurrent_calls_never_share_their_state) {
  EpochManager epochs;
  CallStates states(epochs);
  Threads threads;
  for (std::uint32_t id = 0; id < 4; ++id) {
    threads.start([&, id] {
      for (std::size_t i = 0; i < stressed(2000); ++i) {
        ReadGuard guard(epochs);
        CallState& state = states.of(guard);
        state.scratch.lengths.assign(10, id);
        state.counters.calls.add(1);
        std::this_thread::yield();
        for (std::uint32_t length : state.scratch.lengths) CHECK_EQ(length, id);
      }
    });
  }
  threads.join();
  std::uint64_t calls = 0;
  states.each([&](const CallState& state) { calls += state.counters.calls.get(); });
  CHECK_EQ(calls, 4 * stressed(2000));
}

}  // namespace
