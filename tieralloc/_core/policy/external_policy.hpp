// external_policy.hpp: a policy whose decisions come from outside, late: a model that torch runs.
//
// The planner hands whole chunks of accesses to a function; for each access it answers whether the
// row gets the highest priority or the ordinary one, and for each chunk which rows to prefetch.
// Decisions take effect when they are there. Rows are evicted by PriorityPolicy. The function may
// number rows across all tables of a store, of which a tier has some.
//
// Concurrency: as EvictionPolicy and Planner say.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "eviction/planner.hpp"
#include "eviction/priority.hpp"
#include "policy/model.hpp"

namespace tieralloc {

/// What is decided of some chunks of accesses.
struct ExternalDecisions {
  std::vector<std::uint8_t> keep;  ///< per access: not 0 for the highest priority
  std::vector<RowId> prefetches;   ///< the most wanted first
};

/// Decides on whole chunks; throws where it cannot.
using DecideExternally = std::function<ExternalDecisions(std::span<const RowId> rows)>;

struct ExternalOptions {
  std::uint32_t eviction_speed = 0;  ///< as PriorityPolicy has it
  std::uint32_t chunk = 1;           ///< accesses
  DecideExternally decide = {};
  /// By which `decide` numbers rows: those of table t from [t] to [t + 1]; empty: as the tier does.
  std::vector<RowId> table_starts = {};
  std::size_t model_bytes = 0;  ///< that `decide` takes, for all tables
  std::size_t max_bytes = 0;    ///< that a tier's policy may take with its share; 0: any number
};

class ExternalPolicy final : public EvictionPolicy, public Planner {
 public:
  /// Throws std::invalid_argument for a chunk of 0, for tables of other sizes than `table_starts`
  /// says, where `max_bytes` are too few, or as PriorityPolicy does.
  ExternalPolicy(const EvictionConfig& config, const TierTables& tables, ExternalOptions options);

  Planner* planner() override { return this; }
  void insert(Slot slot, RowId row) override { rows_.insert(slot, row); }
  void touch(std::span<const Slot> slots) override { rows_.touch(slots); }
  Slot evict() override { return rows_.evict(); }
  void remove(Slot slot) override { rows_.remove(slot); }
  void move(Slot from, Slot to) override { rows_.move(from, to); }

  void observe(std::span<const RowId> rows) override;
  /// Throws std::runtime_error for decisions on another number of accesses or prefetches of rows of
  /// no table, and what `decide` throws.
  void evaluate(const TierView& tier) override;
  void apply(const TierView& tier) override;
  void take_prefetches(std::vector<RowId>& rows) override;
  std::size_t bytes() const override { return bytes_; }

 private:
  void check_tables() const;
  std::size_t share_of_model() const;
  std::span<const RowId> number_externally(std::span<const RowId> rows);
  void number_as_tier(std::vector<RowId>& rows) const;

  PriorityPolicy rows_;
  TierTables tables_;
  ExternalOptions options_;
  std::size_t bytes_;
  std::vector<RowId> pending_;  ///< accesses that nothing is decided of yet
  std::vector<RowId> numbered_;
  std::size_t decided_ = 0;  ///< of these, those of this step's decisions
  ExternalDecisions decisions_;
};

MakePolicy make_external(ExternalOptions options);

}  // namespace tieralloc
