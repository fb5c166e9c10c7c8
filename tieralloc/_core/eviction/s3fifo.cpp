// s3fifo.cpp: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023,
// section 4).
//
// New rows enter a small queue of a tenth of the capacity, from where those hit twice or more go on
// to the main queue and the others leave and are remembered in a ghost queue. A row that comes back
// while remembered enters the main queue at once. The main queue is a clock with counts up to 3.
// As in the authors' simulator libCacheSim, the ghost queue is as long as the main one, and what
// finds the small queue full before anything had to leave enters the main queue.
#include <algorithm>
#include <array>

#include "eviction/ghost_queue.hpp"
#include "eviction/marks.hpp"
#include "eviction/registry.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {
namespace {

constexpr std::uint8_t kMostHits = 3;
constexpr std::uint8_t kHitsToMain = 2;

std::uint32_t small_target(const EvictionConfig& config) {
  return std::max(1u, config.capacity / 10);
}

std::uint32_t ghost_length(const EvictionConfig& config) {
  return std::max(1u, static_cast<std::uint32_t>(std::uint64_t{config.capacity} * 9 / 10));
}

class S3Fifo final : public EvictionPolicy {
 public:
  explicit S3Fifo(const EvictionConfig& config)
      : small_target_(small_target(config)),
        main_target_(config.capacity - small_target_),
        queues_(config.slots, kQueues),
        hits_(config, kMostHits),
        queue_of_(config.slots),
        keys_(config.slots),
        ghosts_(ghost_length(config)) {}

  static std::size_t bytes(const EvictionConfig& config) {
    return SlotLists::bytes(config.slots, kQueues) + Marks::bytes(config.slots) +
           config.slots * (sizeof(Queue) + sizeof(GhostQueue::Key)) +
           GhostQueue::bytes(ghost_length(config));
  }

  bool touch_is_concurrent() const override { return true; }
  void touch(std::span<const Slot> slots) override { hits_.raise(slots); }
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const override {
    return hits_.find_saturated(slots, places);
  }

  void insert(Slot slot, RowId row) override {
    keys_[slot] = GhostQueue::key_of(row);
    const bool comes_back = ghosts_.take(keys_[slot]);
    const bool small_is_full = filling_ && size_[kSmall] >= small_target_;
    append(slot, comes_back || small_is_full ? kMain : kSmall);
  }

  Slot evict() override {
    filling_ = false;
    if (size_[kMain] <= main_target_) {
      const Slot victim = evict_from_small();
      if (victim != kNoSlot) return victim;
    }
    return evict_from_main();
  }

  void remove(Slot slot) override {
    queues_.erase(slot);
    --size_[queue_of_[slot]];
  }

  void move(Slot from, Slot to) override {
    queues_.move(from, to);
    hits_.set(to, hits_.get(from));
    queue_of_[to] = queue_of_[from];
    keys_[to] = keys_[from];
  }

 private:
  enum Queue : std::uint8_t { kSmall, kMain, kQueues };

  /// Puts a slot that is in no queue at the end of one, its hits to be counted anew.
  void append(Slot slot, Queue queue) {
    hits_.clear(slot);
    queues_.push_back(queue, slot);
    queue_of_[slot] = queue;
    ++size_[queue];
  }

  Slot evict_from_small() {
    while (!queues_.empty(kSmall)) {
      const Slot oldest = queues_.front(kSmall);
      remove(oldest);
      if (hits_.get(oldest) < kHitsToMain) {
        ghosts_.push(keys_[oldest]);
        return oldest;
      }
      append(oldest, kMain);
    }
    return kNoSlot;
  }

  Slot evict_from_main() {
    // Hits beside this call can raise counts as fast as it lowers them: enough rounds to bring all
    // to 0 are enough.
    for (std::uint64_t chances = std::uint64_t{size_[kMain]} * kMostHits; chances > 0; --chances) {
      const Slot oldest = queues_.front(kMain);
      if (!hits_.lower(oldest)) break;
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
  Marks hits_;
  std::vector<Queue> queue_of_;
  std::vector<GhostQueue::Key> keys_;  ///< by slot
  GhostQueue ghosts_;
  std::array<std::uint32_t, kQueues> size_{};
  bool filling_ = true;  ///< nothing had to leave yet
};

}  // namespace

const PolicyKind kS3Fifo = policy_kind<S3Fifo>("s3fifo");

}  // namespace tieralloc
