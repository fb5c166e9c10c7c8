// cpus.cpp: pinned threads, and refusals.
#include "base/numa/cpus.hpp"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "base/numa/nodes.hpp"
#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(pinned_thread_runs_on_its_processor) {
  for (const int cpu : current_cpus()) {
    std::thread([&] {
      CHECK(pin_this_thread({cpu}));
      CHECK(current_cpus() == std::vector<int>{cpu});
      CHECK_EQ(sched_getcpu(), cpu);
    }).join();
  }
  const auto before = current_cpus();
  CHECK(pin_this_thread({}));
  CHECK(current_cpus() == before);
}

TEST(unknown_processor_is_refused_with_known_ones) {
  const auto before = current_cpus();
  check_cpus(before);
  check_cpus({});
  CHECK_THROWS(std::invalid_argument, check_cpus({before[0], 8000}),
               "cpus: expected processors that this process may run on, ");
  CHECK_THROWS(std::invalid_argument, check_cpus({-3}), ", got -3");
  CHECK(current_cpus() == before);  // asking changes nothing
}

TEST(background_threads_use_the_nodes_processors) {
  for (const NumaNodeInfo& node : numa_nodes()) {
    if (node.cpus.empty()) continue;
    for (const int cpu : cpus_for_node(node.id)) {
      CHECK(std::find(node.cpus.begin(), node.cpus.end(), cpu) != node.cpus.end());
    }
  }
}

TEST(background_threads_avoid_serving_processors) {
  const auto all = current_cpus();
  if (all.size() < 2) SKIP("one processor");
  std::thread([&] {
    CHECK(pin_this_thread({all[0]}));
    const auto others = cpus_for_node(1023);
    CHECK(std::find(others.begin(), others.end(), all[0]) == others.end());
    CHECK(std::find(others.begin(), others.end(), all[1]) != others.end());
  }).join();
}

}  // namespace
