// accesses.cpp: the rings of accesses, and their readers: a recorder and a policy that plans.
#include <algorithm>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

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

AccessSamples Store::record_accesses(std::size_t capacity) {
  check_fork();
  if (capacity > kMaxRingWords) {
    throw std::invalid_argument("capacity: too large; expected at most " +
                                std::to_string(kMaxRingWords) + ", got " +
                                std::to_string(capacity));
  }
  ExclusiveGuard exclusive(epochs_);
  if (capacity > 0) epochs_.check_open();
  return set_access_rings(AccessReader::recorder, capacity);
}

/// Sets the words of a ring that a reader needs, 0 if none. Under an ExclusiveGuard. Returns the
/// accesses that it has not drained; the other reader keeps its own.
AccessSamples Store::set_access_rings(AccessReader reader, std::size_t capacity) {
  std::lock_guard lock(drain_mutex_);
  AccessSamples rest = take_accesses(reader);
  queue_of(reader).capacity = capacity;
  std::size_t needed = 0;
  for (const AccessQueue& queue : access_queues_) needed = std::max(needed, queue.capacity);
  if (needed == access_capacity_.load(std::memory_order_relaxed)) return rest;
  states_.each([&](CallState& state) {
    const std::unique_ptr<AccessRing> ring(state.accesses.exchange(nullptr));
    if (ring != nullptr) former_dropped_ += ring->dropped();
  });
  access_capacity_.store(needed, std::memory_order_relaxed);
  return rest;
}

AccessSamples Store::drain_accesses() {
  check_fork();
  ReadGuard guard(epochs_);
  return drain_rings(AccessReader::recorder);
}

/// With a ReadGuard.
AccessSamples Store::drain_rings(AccessReader reader) {
  std::lock_guard lock(drain_mutex_);
  return take_accesses(reader);
}

/// Under `drain_mutex_`.
AccessSamples Store::take_accesses(AccessReader reader) {
  AccessSamples popped;
  std::vector<std::uint64_t> words;
  states_.each([&](CallState& state) {
    AccessRing* ring = state.accesses.load(std::memory_order_acquire);
    if (ring == nullptr) return;
    words.clear();
    ring->pop(words);
    popped.append(words);
  });
  AccessQueue& own = queue_of(reader);
  for (AccessQueue& queue : access_queues_) {
    if (&queue == &own || queue.capacity == 0) continue;
    if (queue.pending.rows.size() + popped.rows.size() <= AccessQueue::kMaxRows) {
      queue.pending.append(popped);
    } else {
      former_dropped_ += popped.rows.size();
    }
  }
  AccessSamples samples = std::exchange(own.pending, {});
  if (samples.lengths.empty()) {
    samples = std::move(popped);
  } else {
    samples.append(popped);
  }
  if (own.capacity == 0) samples = {};
  samples.dropped = dropped_accesses();
  return samples;
}

std::uint64_t Store::dropped_accesses() const {
  std::uint64_t dropped = former_dropped_;
  states_.each([&](const CallState& state) {
    const AccessRing* ring = state.accesses.load(std::memory_order_acquire);
    if (ring != nullptr) dropped += ring->dropped();
  });
  return dropped;
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
