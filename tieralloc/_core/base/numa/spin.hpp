// spin.hpp: busy waiting for nanoseconds, as a thread waits for memory.
//
// The first call calibrates, once per process. Any number of threads.
#pragma once

#include <cstdint>

namespace tieralloc {

/// Waits `ns` nanoseconds, within some per cent while the processor keeps the frequency of the
/// calibration.
void spin(double ns);

/// CPU time of the calling thread in nanoseconds, which other threads do not affect.
std::uint64_t thread_ns();

/// Steps of the loop per nanosecond.
double spin_steps_per_ns();

/// Orders loads before it and after it, so that a measurement starts after earlier loads have
/// ended.
inline void serialise() {
#if defined(__x86_64__)
  __asm__ __volatile__("lfence" ::: "memory");
#elif defined(__aarch64__)
  __asm__ __volatile__("dsb ish; isb" ::: "memory");
#endif
}

}  // namespace tieralloc
