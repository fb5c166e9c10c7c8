// s3fifo.cpp: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023,
// section 4).
//
//   insert: if the row is in the ghost queue: append it to the main queue
//           else: append it to the small queue, a tenth of the capacity
//   hit:    count it, up to 3
//   evict:  if the main queue is within its target, pop rows from the small queue:
//             a row with 2 hits or more moves to the main queue, its hits reset
//             else: add the row to the ghost queue and evict it
//           pop rows from the main queue:
//             a row with hits moves to the back, with one hit less
//             else: evict the row
// As in the authors' simulator libCacheSim, the ghost queue is as long as the main queue, and a row
// that finds the small queue full before the first eviction enters the main queue. A long ghost
// queue is set-associative (ghost_queue.hpp).
#include <algorithm>
#include <array>

#include "eviction/ghost_queue.hpp"
#include "eviction/reference_bits.hpp"
#include "eviction/registry.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {
namespace {

constexpr std::uint8_t kMaxHits = 3;
constexpr std::uint8_t kHitsToMain = 2;

std::uint32_t small_target(const EvictionConfig& config) {
  return std::max(1u, config.capacity / 10);
}

std::uint32_t ghost_length(const EvictionConfig& config) {
  return std::max(1u, static_cast<std::uint32_t>(std::uint64_t{config.capacity} * 9 / 10));
}

class S3Fifo final : public ReferenceBitPolicy {
 public:
  explicit S3Fifo(const EvictionConfig& config)
      : ReferenceBitPolicy(config, kMaxHits),
        small_target_(small_target(config)),
        main_target_(config.capacity - small_target_),
        queues_(config.slots, kQueues),
        is_in_main_(config.slots),
        ghosts_(ghost_length(config)) {}

  static std::size_t bytes(const EvictionConfig& config) {
    return SlotLists::bytes(config.slots, kQueues) + ReferenceBits::bytes(config.slots) +
           (config.slots + 63) / 64 * 8 + GhostQueue::bytes(ghost_length(config));
  }

  void insert(Slot slot, RowId row) override {
    const bool is_ghost = ghosts_.take(row);
    const bool is_small_full = is_filling_ && size_[kSmall] >= small_target_;
    append(slot, is_ghost || is_small_full ? kMain : kSmall);
  }

  void insert_as(Slot slot, RowId row, Standing standing) override {
    ghosts_.take(row);
    append(slot, standing.queue == kMain ? kMain : kSmall);
    for (unsigned hit = 0; hit < standing.hits; ++hit) touch({&slot, 1});
  }

  Slot evict() override {
    is_filling_ = false;
    is_victim_small_ = false;
    if (size_[kMain] <= main_target_) {
      const Slot victim = evict_from_small();
      if (victim != kNoSlot) return victim;
    }
    return evict_from_main();
  }

  void note_evicted(RowId row) override {
    if (is_victim_small_) ghosts_.push(row);
  }

  void remove(Slot slot) override {
    queues_.erase(slot);
    --size_[is_in_main_[slot] ? kMain : kSmall];
  }

  void move(Slot from, Slot to) override {
    queues_.move(from, to);
    reference_bits_.set(to, reference_bits_.get(from));
    is_in_main_[to] = is_in_main_[from];
  }

  Standing standing(Slot slot) const override {
    return {.queue = static_cast<std::uint8_t>(is_in_main_[slot] ? kMain : kSmall),
            .hits = reference_bits_.get(slot)};
  }

 private:
  enum Queue : std::uint32_t { kSmall, kMain, kQueues };

  /// Appends a slot that is in no queue, with its hits reset.
  void append(Slot slot, Queue queue) {
    reference_bits_.clear(slot);
    queues_.push_back(queue, slot);
    is_in_main_[slot] = queue == kMain;
    ++size_[queue];
  }

  Slot evict_from_small() {
    while (!queues_.empty(kSmall)) {
      const Slot oldest = queues_.front(kSmall);
      remove(oldest);
      if (reference_bits_.get(oldest) < kHitsToMain) {
        is_victim_small_ = true;
        return oldest;
      }
      append(oldest, kMain);
    }
    return kNoSlot;
  }

  Slot evict_from_main() {
    // Concurrent hits can raise counts as fast as this loop lowers them: as many steps at most as
    // bring all counts to 0 without them.
    for (std::uint64_t chances = std::uint64_t{size_[kMain]} * kMaxHits; chances > 0; --chances) {
      const Slot oldest = queues_.front(kMain);
      if (!reference_bits_.decrement(oldest)) break;
      queues_.erase(oldest);
      queues_.push_back(kMain, oldest);
    }
    const Slot victim = queues_.front(kMain);
    if (victim != kNoSlot) remove(victim);
    return victim;
  }

  std::uint32_t small_target_;
  std::uint32_t main_target_;
  SlotLists queues_;
  std::vector<bool> is_in_main_;  ///< by slot
  GhostQueue ghosts_;
  std::array<std::uint32_t, kQueues> size_{};
  bool is_filling_ = true;        ///< no eviction yet
  bool is_victim_small_ = false;  ///< the last one
};

}  // namespace

const PolicyKind kS3Fifo = policy_kind<S3Fifo>("s3fifo");

}  // namespace tieralloc
