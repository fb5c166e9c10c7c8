// thread_class.cpp: sched_setattr by raw system call.
#include "base/thread_class.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace tieralloc {
namespace {

/// The argument of sched_setattr, which glibc before 2.41 does not declare.
struct SchedulerAttributes {
  std::uint32_t size = sizeof(SchedulerAttributes);
  std::uint32_t policy = SCHED_BATCH;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 100'000'000;  ///< ns; since Linux 6.12 the length of a time slice
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};

}  // namespace

void yield_to_serving() {
  SchedulerAttributes attributes;
  attributes.nice = getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)));
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace tieralloc
