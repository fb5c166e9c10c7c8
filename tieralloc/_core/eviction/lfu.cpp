// lfu.cpp: least frequently used, ties broken by least recently used (Shah, Mitra and Matani, "An
// O(1) algorithm for implementing the LFU cache eviction scheme", 2010).
//
//   insert: append the row to the bucket of frequency 1
//   hit:    move the row to the bucket of the next frequency, created if it does not exist
//   evict:  evict the first row of the bucket of the lowest frequency
// A bucket is the list of the rows of one frequency in the order of their last hits. The buckets in
// use form a list in ascending frequency. Their number never exceeds the number of slots.
#include <algorithm>
#include <limits>

#include "eviction/registry.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {
namespace {

class Lfu final : public EvictionPolicy {
 public:
  explicit Lfu(const EvictionConfig& config)
      : rows_(config.slots, config.slots),
        buckets_(config.slots, kBucketLists),
        bucket_of_(config.slots),
        frequency_(config.slots) {
    for (Bucket bucket = 0; bucket < config.slots; ++bucket) buckets_.push_back(kFree, bucket);
  }

  static std::size_t bytes(const EvictionConfig& config) {
    return SlotLists::bytes(config.slots, config.slots) +
           SlotLists::bytes(config.slots, kBucketLists) +
           config.slots * (sizeof(Bucket) + sizeof(std::uint32_t));
  }

  void insert(Slot slot, RowId) override {
    Bucket lowest = buckets_.front(kInUse);
    if (lowest == kNoSlot || frequency_[lowest] != 1) {
      lowest = take_bucket(1);
      buckets_.push_front(kInUse, lowest);
    }
    append(slot, lowest);
  }

  void touch(std::span<const Slot> slots) override {
    for (const Slot slot : slots) {
      if (rows_.contains(slot)) count_hit(slot);
    }
  }

  Slot evict() override {
    const Bucket lowest = buckets_.front(kInUse);
    if (lowest == kNoSlot) return kNoSlot;
    const Slot victim = rows_.front(lowest);
    remove(victim);
    return victim;
  }

  void remove(Slot slot) override {
    rows_.erase(slot);
    free_if_empty(bucket_of_[slot]);
  }

  void move(Slot from, Slot to) override {
    rows_.move(from, to);
    bucket_of_[to] = bucket_of_[from];
  }

  Standing standing(Slot slot) const override {
    const std::uint32_t hits = frequency_[bucket_of_[slot]] - 1;
    return {.hits = static_cast<std::uint8_t>(std::min(hits, 255u))};
  }

 private:
  using Bucket = std::uint32_t;
  enum BucketList : std::uint32_t { kInUse, kFree, kBucketLists };

  void count_hit(Slot slot) {
    const Bucket from = bucket_of_[slot];
    rows_.erase(slot);
    const std::uint32_t frequency = frequency_[from];
    if (frequency == std::numeric_limits<std::uint32_t>::max()) {
      append(slot, from);
      return;
    }
    const Bucket to = buckets_.next(from);
    if (to != kNoSlot && frequency_[to] == frequency + 1) {
      append(slot, to);
      free_if_empty(from);
    } else if (rows_.empty(from)) {
      frequency_[from] = frequency + 1;
      append(slot, from);
    } else {
      const Bucket fresh = take_bucket(frequency + 1);
      buckets_.insert_after(from, fresh);
      append(slot, fresh);
    }
  }

  void append(Slot slot, Bucket bucket) {
    rows_.push_back(bucket, slot);
    bucket_of_[slot] = bucket;
  }

  Bucket take_bucket(std::uint32_t frequency) {
    const Bucket bucket = buckets_.front(kFree);
    buckets_.erase(bucket);
    frequency_[bucket] = frequency;
    return bucket;
  }

  void free_if_empty(Bucket bucket) {
    if (!rows_.empty(bucket)) return;
    buckets_.erase(bucket);
    buckets_.push_front(kFree, bucket);
  }

  SlotLists rows_;                        ///< a list per bucket
  SlotLists buckets_;                     ///< of buckets, not slots
  std::vector<Bucket> bucket_of_;         ///< by slot
  std::vector<std::uint32_t> frequency_;  ///< by bucket
};

}  // namespace

const PolicyKind kLfu = policy_kind<Lfu>("lfu");

}  // namespace tieralloc
