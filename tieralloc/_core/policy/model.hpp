// model.hpp: a trained policy model and its options.
//
// Concurrency: immutable after construction; policies share a model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/types.hpp"
#include "eviction/policy.hpp"
#include "policy/network.hpp"

namespace tieralloc {

struct PolicyModel {
  using MakeNetwork = std::function<std::unique_ptr<Network>()>;

  MakeNetwork caching;   ///< from a row's features to its hazards, one per interval
  MakeNetwork prefetch;  ///< from a candidate's features to its hazards; empty: no prefetching
  std::vector<std::uint32_t> intervals;  ///< upper ends in accesses, ascending
  /// Intervals of the prefetch network, from the end of the sample; the first one, 0, is the rest
  /// of the sample.
  std::vector<std::uint32_t> prefetch_intervals;
  std::vector<std::uint32_t> horizons;                          ///< of uses, in accesses, ascending
  std::vector<std::pair<std::uint32_t, double>> eviction_ages;  ///< of LRU, by capacity, ascending
  std::vector<std::uint32_t> contexts;                          ///< numbers of context tables
};

/// The tables that share a tier.
struct TierTables {
  std::vector<RowId> starts;           ///< table t has the tier's rows from [t] to [t + 1]
  std::vector<std::uint32_t> numbers;  ///< numbers of the tables in the model
};

/// Makes a policy for a tier. Throws std::invalid_argument for tables that do not fit the model.
using MakePolicy =
    std::function<std::unique_ptr<EvictionPolicy>(const EvictionConfig&, const TierTables&)>;

struct LearnedOptions {
  /// Max bytes of the policy, without the tier. 0: 128 per row of the tier, at least 2 MiB; with
  /// prefetching also 384 per row, at least 64 MiB.
  std::size_t max_bytes = 0;
  double prefetch_cost = 0;    ///< of a prefetched row, as a share of an on-demand fetch
  bool selects = true;         ///< whether simple policies may become active
  bool whole_samples = false;  ///< whether the rows of a sample are looked up together
};

}  // namespace tieralloc
