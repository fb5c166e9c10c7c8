// accesses.cpp: accesses of lookups, recorded for a policy or for the caller.
#include <new>
#include <stdexcept>
#include <string>

#include "base/limits.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

/// If memory is short, the smallest ring, which drops and counts calls: a lookup does not fail for
/// lack of a record.
AccessRing* make_ring(std::size_t capacity) {
  try {
    return new AccessRing(capacity);
  } catch (const std::bad_alloc&) {
    return new AccessRing(1);
  }
}

}  // namespace

void Store::record_accesses(std::size_t capacity) {
  check_fork();
  if (capacity > kMaxRingWords) {
    throw std::invalid_argument("capacity is " + std::to_string(capacity) + ", expected at most " +
                                std::to_string(kMaxRingWords));
  }
  ExclusiveGuard exclusive(epochs_);
  epochs_.check_open();
  set_access_rings(capacity);
}

/// Under an ExclusiveGuard.
void Store::set_access_rings(std::size_t capacity) {
  states_.each([](CallState& state) { delete state.accesses.exchange(nullptr); });
  access_capacity_.store(capacity, std::memory_order_relaxed);
}

AccessSamples Store::drain_accesses() {
  check_fork();
  ReadGuard guard(epochs_);
  return drain_rings();
}

/// With a ReadGuard.
AccessSamples Store::drain_rings() {
  std::lock_guard lock(drain_mutex_);
  AccessSamples samples;
  std::vector<std::uint64_t> words;
  states_.each([&](CallState& state) {
    AccessRing* ring = state.accesses.load(std::memory_order_acquire);
    if (ring == nullptr) return;
    words.clear();
    ring->pop(words);
    samples.append(words);
  });
  return samples;
}

/// The ring of a call, made for its first call; null if accesses are not recorded.
AccessRing* Store::ring_of(CallState& state) {
  const std::size_t capacity = access_capacity_.load(std::memory_order_relaxed);
  if (capacity == 0) return nullptr;
  std::atomic<AccessRing*>& ring = state.accesses;
  if (ring.load(std::memory_order_relaxed) == nullptr) {
    ring.store(make_ring(capacity), std::memory_order_release);
  }
  return ring.load(std::memory_order_relaxed);
}

}  // namespace tieralloc
