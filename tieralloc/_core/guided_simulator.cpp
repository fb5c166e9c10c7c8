#include "guided_simulator.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace tieralloc {
namespace {

std::unique_ptr<PriorityPolicy> make_policy(std::uint32_t capacity, std::uint32_t eviction_speed) {
  if (capacity < 1) throw std::invalid_argument("capacity is 0, expected at least 1 row");
  const EvictionConfig config{.capacity = capacity, .slots = capacity};
  return std::make_unique<PriorityPolicy>(config, eviction_speed);
}

void check_size(const char* what, std::size_t size, std::size_t expected) {
  if (size == expected) return;
  throw std::invalid_argument(std::string(what) + " are " + std::to_string(size) + ", expected " +
                              std::to_string(expected));
}

void check_offsets(std::span<const std::uint64_t> offsets, std::size_t prefetches) {
  std::uint64_t last = 0;
  for (const std::uint64_t offset : offsets) {
    if (offset < last) throw std::invalid_argument("offsets of prefetches descend");
    last = offset;
  }
  check_size("prefetches", prefetches, last);
}

}  // namespace

GuidedSimulator::GuidedSimulator(std::uint32_t capacity, std::uint64_t rows, std::uint32_t chunk,
                                 std::uint32_t eviction_speed, std::uint64_t count_from,
                                 std::uint64_t prefetch_lag)
    : GuidedSimulator(make_policy(capacity, eviction_speed), capacity, rows, chunk, count_from,
                      prefetch_lag) {}

GuidedSimulator::GuidedSimulator(std::unique_ptr<PriorityPolicy> policy, std::uint32_t capacity,
                                 std::uint64_t rows, std::uint32_t chunk, std::uint64_t count_from,
                                 std::uint64_t prefetch_lag)
    : policy_(*policy),
      simulator_(std::move(policy), capacity, rows, count_from, prefetch_lag),
      rows_(rows),
      chunk_(chunk) {
  if (chunk < 1) throw std::invalid_argument("chunk is 0, expected at least 1 access");
}

void GuidedSimulator::run(std::span<const RowId> accesses, std::span<const std::uint8_t> keep,
                          std::span<const RowId> prefetches,
                          std::span<const std::uint64_t> offsets) {
  const std::size_t chunks = accesses.size() / chunk_;
  check_size("decisions to keep", keep.size(), chunks * chunk_);
  check_size("offsets", offsets.size(), chunks + 1);
  check_offsets(offsets, prefetches.size());
  check_rows(accesses, rows_);
  check_rows(prefetches, rows_);
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    const std::size_t begin = chunk * chunk_;
    simulator_.run(accesses.subspan(begin, chunk_));
    for (std::size_t i = begin; i < begin + chunk_; ++i) {
      const Slot slot = simulator_.slot_of(accesses[i]);
      if (slot == kNoSlot) continue;
      policy_.set_priority(slot, keep[i] != 0 ? policy_.highest() : policy_.highest() - 1);
    }
    simulator_.prefetch(prefetches.subspan(offsets[chunk], offsets[chunk + 1] - offsets[chunk]));
  }
  simulator_.run(accesses.subspan(chunks * chunk_));
}

void GuidedSimulator::write_standings(std::span<const RowId> rows, double* standings) const {
  check_rows(rows, rows_);
  for (const RowId row : rows) {
    const Slot slot = simulator_.slot_of(row);
    *standings++ = slot == kNoSlot ? -1 : policy_.standing(slot);
  }
}

std::size_t GuidedSimulator::bytes(std::uint32_t capacity, std::uint64_t rows) {
  // What the simulator knows of rows and of slots, and the policy of slots.
  return rows * sizeof(Slot) + capacity * sizeof(RowId) +
         PriorityPolicy::bytes({.capacity = capacity, .slots = capacity});
}

}  // namespace tieralloc
