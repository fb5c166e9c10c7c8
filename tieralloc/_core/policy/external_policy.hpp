// external_policy.hpp: a policy with decisions from an external function, such as a torch model.
//
//   observe:  append the accesses
//   evaluate: call `decide` with all whole chunks of accesses; it returns a decision per access
//             (highest or default priority) and rows to prefetch
//   apply:    set the priorities of the rows that are still resident
// PriorityPolicy evicts. The function may number rows across all tables of a store, while a tier
// has some of the tables.
//
// Concurrency: as EvictionPolicy and Planner.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "eviction/planner.hpp"
#include "eviction/priority.hpp"
#include "policy/model.hpp"

namespace tieralloc {

/// Decisions on chunks of accesses.
struct ExternalDecisions {
  std::vector<std::uint8_t> keep;  ///< per access: not 0 for the highest priority
  std::vector<RowId> prefetches;   ///< in order of priority
};

/// Decides on whole chunks; throws on failure.
using DecideExternally = std::function<ExternalDecisions(std::span<const RowId> rows)>;

struct ExternalOptions {
  std::uint32_t eviction_speed = 0;  ///< of PriorityPolicy
  std::uint32_t chunk = 1;           ///< accesses
  DecideExternally decide = {};
  /// Row numbers of `decide`: table t has those from [t] to [t + 1]; empty: as those of the tier.
  std::vector<RowId> table_starts = {};
  std::size_t model_bytes = 0;  ///< memory of `decide`, for all tables
  std::size_t max_bytes = 0;    ///< of a tier's policy with its share of the model; 0: no limit
};

class ExternalPolicy final : public EvictionPolicy, public Planner {
 public:
  /// Throws std::invalid_argument for a chunk of 0, for tables of other sizes than in
  /// `table_starts`, for too few `max_bytes`, and as PriorityPolicy does.
  ExternalPolicy(const EvictionConfig& config, const TierTables& tables, ExternalOptions options);

  Planner* planner() override { return this; }
  void insert(Slot slot, RowId row) override { rows_.insert(slot, row); }
  void touch(std::span<const Slot> slots) override { rows_.touch(slots); }
  Slot evict() override { return rows_.evict(); }
  void remove(Slot slot) override { rows_.remove(slot); }
  void move(Slot from, Slot to) override { rows_.move(from, to); }

  void observe(std::span<const RowId> rows) override;
  /// Throws std::runtime_error for a wrong number of decisions and for prefetched rows out of
  /// range, and the exceptions of `decide`.
  void evaluate(const TierView& tier) override;
  void apply(const TierView& tier) override;
  void take_prefetches(std::vector<RowId>& rows) override;
  std::size_t bytes() const override { return bytes_; }

 private:
  void check_tables() const;
  std::size_t model_bytes_share() const;
  std::span<const RowId> to_external_rows(std::span<const RowId> rows);
  void to_tier_rows(std::vector<RowId>& rows) const;

  PriorityPolicy rows_;
  TierTables tables_;
  ExternalOptions options_;
  std::size_t bytes_;
  std::vector<RowId> undecided_;  ///< accesses without applied decisions
  std::vector<RowId> external_rows_;
  std::size_t num_decided_ = 0;  ///< undecided accesses with decisions of this step
  ExternalDecisions decisions_;
};

/// Returns a function that makes an external policy for each tier.
MakePolicy make_external(ExternalOptions options);

}  // namespace tieralloc
