// policy_memory.hpp: sizes the memory of a learned policy to a limit in bytes.
//
//   sizes = the largest useful ones
//   for each of: rows with partners, rows of a miniature, rows with a history
//     if the policy exceeds the limit: shrink this size, to its minimum if needed
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "eviction/policy.hpp"
#include "policy/model.hpp"
#include "policy/row_history.hpp"

namespace tieralloc {

struct PolicyMemory {
  HistoryConfig history;
  std::uint32_t partners = 0;   ///< rows whose partners are counted
  std::uint32_t miniature = 0;  ///< rows of each miniature simulation
};

/// Names of the simple policies that may become active.
std::vector<std::string> simple_policies();

/// Bytes of a learned policy with this memory, without the networks.
std::size_t policy_bytes(const EvictionConfig& config, const PolicyModel& model,
                         const TierTables& tables, const LearnedOptions& options,
                         const PolicyMemory& memory);

/// The memory of a learned policy within its limit. Throws std::invalid_argument, naming the min
/// number of bytes, if `options.max_bytes` is below that.
PolicyMemory fit_memory(const EvictionConfig& config, const PolicyModel& model,
                        const TierTables& tables, const LearnedOptions& options);

}  // namespace tieralloc
