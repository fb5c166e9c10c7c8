// spin.hpp: time that passes while a thread keeps its processor, as it does while it waits for
// memory.
//
// Calibrated once a process, by the first who asks; any number of threads.
#pragma once

#include <cstdint>

namespace tieralloc {

/// Lets this many nanoseconds pass, to within some per cent while the processor's frequency is what
/// it was when it was calibrated.
void spin(double ns);

/// Nanoseconds that the calling thread has had a processor: what memory takes does not depend on
/// who else wants one.
std::uint64_t thread_ns();

/// Steps of the loop that take a nanosecond.
double spin_steps_per_ns();

/// Orders loads before it and after it: what is timed does not begin before what stands before it
/// has ended.
inline void serialise() {
#if defined(__x86_64__)
  __asm__ __volatile__("lfence" ::: "memory");
#elif defined(__aarch64__)
  __asm__ __volatile__("dsb ish; isb" ::: "memory");
#endif
}

}  // namespace tieralloc
