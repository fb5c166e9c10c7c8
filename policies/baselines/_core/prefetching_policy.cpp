// prefetching_policy.cpp: forwards accesses to the prefetcher and evictions to both.
#include "prefetching_policy.hpp"

#include <utility>
#include <vector>

#include "eviction/planner.hpp"

namespace tieralloc::baselines {
namespace {

class PrefetchingPolicy final : public EvictionPolicy, public Planner {
 public:
  PrefetchingPolicy(std::unique_ptr<EvictionPolicy> policy, Slot slots,
                    std::shared_ptr<RowPrefetcher> prefetcher)
      : policy_(std::move(policy)), prefetcher_(std::move(prefetcher)), resident_(slots) {}

  Planner* planner() override { return this; }

  void insert(Slot slot, RowId row) override {
    resident_[slot] = {row, false};
    policy_->insert(slot, row);
  }

  void insert_prefetched(Slot slot, RowId row) override {
    resident_[slot] = {row, true};
    policy_->insert_prefetched(slot, row);
  }

  void touch(std::span<const Slot> slots) override {
    for (const Slot slot : slots) {
      const bool is_first_use = std::exchange(resident_[slot].is_unused_prefetch, false);
      result_ = is_first_use ? AccessResult::prefetched : AccessResult::resident;
    }
    policy_->touch(slots);
  }

  Slot evict() override {
    const Slot slot = policy_->evict();
    if (slot != kNoSlot) prefetcher_->evicted(resident_[slot].row);
    return slot;
  }

  void note_evicted(RowId row) override { policy_->note_evicted(row); }

  void remove(Slot slot) override { policy_->remove(slot); }

  void move(Slot from, Slot to) override {
    resident_[to] = resident_[from];
    policy_->move(from, to);
  }

  bool admits(RowId row) override { return policy_->admits(row); }

  void begin_sample() override { prefetcher_->begin_sample(); }

  void observe(std::span<const RowId> rows) override {
    prefetches_.clear();
    for (const RowId row : rows) {
      prefetcher_->observe(row, std::exchange(result_, AccessResult::on_demand), prefetches_);
    }
  }

  void take_prefetches(std::vector<RowId>& rows) override {
    rows.insert(rows.end(), prefetches_.begin(), prefetches_.end());
    prefetches_.clear();
  }

 private:
  struct Resident {
    RowId row = kNoRow;
    bool is_unused_prefetch = false;
  };

  std::unique_ptr<EvictionPolicy> policy_;
  std::shared_ptr<RowPrefetcher> prefetcher_;
  std::vector<Resident> resident_;                 ///< by slot
  AccessResult result_ = AccessResult::on_demand;  ///< of the access that observe() gets next
  std::vector<RowId> prefetches_;                  ///< not taken yet
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_prefetching_policy(std::string_view name,
                                                        const EvictionConfig& config,
                                                        std::shared_ptr<RowPrefetcher> prefetcher) {
  return std::make_unique<PrefetchingPolicy>(make_eviction_policy(name, config), config.slots,
                                             std::move(prefetcher));
}

}  // namespace tieralloc::baselines
