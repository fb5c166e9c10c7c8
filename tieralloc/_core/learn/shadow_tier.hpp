// shadow_tier.hpp: a fast tier without bytes that takes advice.
//
// What a store does with the same policy and the same advice, one access at a time: a hit touches,
// a miss is admitted if the policy will have it, a victim is the next one advised or else the
// policy's, and what is fetched ahead is there at once. Rows are any numbers; memory goes with the
// capacity alone. Not for concurrent use.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "../eviction/advice.hpp"
#include "../eviction/policy.hpp"
#include "../split_mix.hpp"
#include "../types.hpp"

namespace tieralloc {

class ShadowTier {
 public:
  /// Throws std::invalid_argument for an unknown policy or a capacity of 0.
  ShadowTier(const std::string& policy, std::uint32_t capacity, std::uint64_t seed);

  /// Whether the row was resident. It is from now on, where the policy admits it.
  bool access(RowId row);

  /// Whether the row is resident; that is no access.
  bool holds(RowId row) const { return slot_of_.contains(row); }

  /// Fetches a row ahead, unless it is resident.
  void prefetch(RowId row);

  // As FastTier's.
  std::size_t advise_evictions(std::span<const RowId> rows, std::size_t most);
  void withdraw_advice(std::span<const RowId> rows) { advice_.withdraw(rows); }
  void clear_advice() { advice_.clear(); }
  std::size_t advised_rows() const { return advice_.size(); }
  void sample_residents(std::size_t draws, std::vector<RowId>& rows);
  void use_policy(const std::string& policy);

  /// DRAM that it takes when it is full, as near as can be told of a standard container.
  std::size_t bytes() const;

  std::uint32_t capacity() const { return capacity_; }
  std::uint32_t resident_rows() const { return resident_; }
  std::uint64_t lookups() const { return lookups_; }
  std::uint64_t misses() const { return misses_; }
  std::uint64_t evictions() const { return evictions_; }
  std::uint64_t advised_evictions() const { return advised_evictions_; }
  std::uint64_t prefetches_issued() const { return prefetches_issued_; }
  std::uint64_t prefetches_useful() const { return prefetches_useful_; }
  std::uint64_t prefetches_useless() const { return prefetches_useless_; }

 private:
  static constexpr std::uint64_t kUsed = ~std::uint64_t{0};

  void admit(RowId row, bool ahead);
  bool awaits_use(Slot slot) const;
  Slot free_slot();
  Slot advised_victim();

  std::uint32_t capacity_;
  std::uint64_t seed_;
  std::string policy_name_;
  std::unique_ptr<EvictionPolicy> policy_;
  Advice advice_;
  SplitMix64 random_;
  std::unordered_map<RowId, Slot> slot_of_;
  std::vector<RowId> row_in_;
  std::vector<std::uint64_t> unused_since_;  ///< `evictions_` as a row was fetched ahead; or kUsed
  std::uint32_t resident_ = 0;
  std::uint64_t lookups_ = 0;
  std::uint64_t misses_ = 0;
  std::uint64_t evictions_ = 0;
  std::uint64_t advised_evictions_ = 0;
  std::uint64_t prefetches_issued_ = 0;
  std::uint64_t prefetches_useful_ = 0;
  std::uint64_t prefetches_useless_ = 0;
};

}  // namespace tieralloc
