// policy_memory.cpp: counts the bytes of a learned policy and shrinks them to the limit.
#include "policy/policy_memory.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "policy/learned_policy.hpp"

namespace tieralloc {
namespace {

// Rows with a history, and rows with partners, per row of the tier, if memory suffices.
constexpr std::uint32_t kHistoryRowsPerRow = 5;
constexpr std::uint32_t kPartnerRowsPerRow = 32;
// Limits without `max_bytes`: bytes per row of the tier, or the constant if that is more.
constexpr std::size_t kRowBytes = 128, kMinBytes = std::size_t{2} << 20;
constexpr std::size_t kPartnerRowBytes = 384, kMinPartnerBytes = std::size_t{64} << 20;

std::uint32_t limit_rows(std::uint64_t rows, std::uint64_t max) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>({rows, max, 1u << 30}));
}

/// The context tables of the model that this tier has, as numbers of the tier's tables.
std::vector<std::uint32_t> find_contexts(const PolicyModel& model, const TierTables& tables) {
  std::vector<std::uint32_t> contexts;
  for (const std::uint32_t context : model.contexts) {
    const auto place = std::find(tables.numbers.begin(), tables.numbers.end(), context);
    if (place == tables.numbers.end()) continue;
    contexts.push_back(static_cast<std::uint32_t>(place - tables.numbers.begin()));
  }
  return contexts;
}

/// The largest useful sizes.
PolicyMemory full_memory(const EvictionConfig& config, const PolicyModel& model,
                         const TierTables& tables) {
  // Twice as many places as rows, so that few rows share a bucket.
  const std::uint64_t max_rows = 2 * (tables.starts.back() + 1);
  const std::uint64_t partners = std::uint64_t{config.capacity} * kPartnerRowsPerRow;
  PolicyMemory memory;
  memory.history.table_starts = tables.starts;
  memory.history.table_numbers = tables.numbers;
  memory.history.contexts = find_contexts(model, tables);
  memory.history.remembered =
      limit_rows(std::uint64_t{config.capacity} * kHistoryRowsPerRow, max_rows);
  memory.history.samples = config.capacity / 2;
  memory.partners = model.prefetch ? limit_rows(partners, max_rows) : 0;
  memory.miniature = Selector::miniature_rows(config.capacity);
  return memory;
}

std::size_t max_bytes(const EvictionConfig& config, const PolicyModel& model,
                      const LearnedOptions& options) {
  if (options.max_bytes != 0) return options.max_bytes;
  const std::size_t partners =
      model.prefetch ? std::max(kPartnerRowBytes * config.capacity, kMinPartnerBytes) : 0;
  return std::max(kRowBytes * config.capacity, kMinBytes) + partners;
}

/// Bytes of the selector and of the largest simple policy beyond those that the ranking releases
/// for it. Only during a switch both hold rows.
std::size_t selection_bytes(const EvictionConfig& config, const TierTables& tables,
                            std::uint32_t miniature) {
  const std::vector<std::string> names = simple_policies();
  const std::size_t ranking = ValueRanking::slot_bytes(config);
  std::size_t active = ranking;
  for (const std::string& name : names) {
    active = std::max(active, eviction_policy_bytes(name, config));
  }
  return Selector::bytes(miniature, tables.starts.back(), names) + active - ranking;
}

}  // namespace

std::vector<std::string> simple_policies() {
  return {"s3fifo", "lru", "sieve"};
}

std::size_t policy_bytes(const EvictionConfig& config, const PolicyModel& model,
                         const TierTables& tables, const LearnedOptions& options,
                         const PolicyMemory& memory) {
  std::size_t bytes = sizeof(LearnedPolicy) + RowModel::bytes(memory.history, config.capacity) +
                      ValueRanking::bytes(config, bool{model.prefetch});
  if (model.prefetch) bytes += Prefetcher::bytes(config.capacity, memory.partners);
  if (options.selects) bytes += selection_bytes(config, tables, memory.miniature);
  return bytes;
}

PolicyMemory fit_memory(const EvictionConfig& config, const PolicyModel& model,
                        const TierTables& tables, const LearnedOptions& options) {
  PolicyMemory memory = full_memory(config, model, tables);
  const auto bytes = [&] { return policy_bytes(config, model, tables, options, memory); };
  const std::size_t limit = max_bytes(config, model, options);
  const std::uint32_t miniature = Selector::miniature_rows(config.capacity, Selector::kMinRate);
  const std::pair<std::uint32_t*, std::uint32_t> sizes[] = {
      {&memory.partners, 1}, {&memory.miniature, miniature}, {&memory.history.remembered, 1}};
  for (const auto& [rows, min_rows] : sizes) {
    const std::size_t wanted = bytes();
    if (wanted <= limit || *rows <= min_rows) continue;
    const std::uint32_t more = std::exchange(*rows, min_rows) - min_rows;
    const std::size_t min_bytes = bytes();
    if (min_bytes >= limit) continue;
    const double share =
        static_cast<double>(limit - min_bytes) / static_cast<double>(wanted - min_bytes);
    *rows += static_cast<std::uint32_t>(share * more);
    while (*rows > min_rows && bytes() > limit) --*rows;  // rounding
  }
  if (options.max_bytes != 0 && bytes() > options.max_bytes) {
    throw std::invalid_argument("memory: expected at least " + std::to_string(bytes()) +
                                " for a fast tier of " + std::to_string(config.capacity) +
                                " rows, got " + std::to_string(options.max_bytes));
  }
  return memory;
}

}  // namespace tieralloc
