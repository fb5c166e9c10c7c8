// model.hpp: a trained policy, as the core runs it.
//
// Concurrency: immutable once made; shared by the policies that run it.
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
  MakeNetwork prefetch;  ///< from a candidate's features to its hazards; none: no prefetching
  std::vector<std::uint32_t> intervals;  ///< upper ends in accesses, ascending
  /// The same of the prefetch network, from the end of the sample on; the first, 0, is its rest.
  std::vector<std::uint32_t> prefetch_intervals;
  std::vector<std::uint32_t> horizons;  ///< of a use that may count, in accesses, ascending
  std::vector<std::pair<std::uint32_t, double>> eviction_ages;  ///< of LRU, by capacity, ascending
  std::vector<std::uint32_t> contexts;                          ///< numbers of context tables
};

/// The tables whose rows share a tier.
struct TierTables {
  std::vector<RowId> starts;           ///< table t has the tier's rows from [t] to [t + 1]
  std::vector<std::uint32_t> numbers;  ///< by which the model knows them
};

/// Makes a policy for a tier. Throws std::invalid_argument for tables that it does not fit.
using MakePolicy =
    std::function<std::unique_ptr<EvictionPolicy>(const EvictionConfig&, const TierTables&)>;

struct LearnedOptions {
  /// That the policy may take beside the tier; 0: 128 for each of its rows, and 384 for partners
  /// where it prefetches, or 2 MiB and 64 MiB if that is more.
  std::size_t max_bytes = 0;
  double prefetch_cost = 0;    ///< of a prefetched row, as a share of an on-demand fetch
  bool selects = true;         ///< whether simple policies may become active
  bool whole_samples = false;  ///< whether the rows of a sample are looked up together
};

}  // namespace tieralloc
