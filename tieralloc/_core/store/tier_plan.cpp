// tier_plan.cpp: shares of the budget, from the smallest row size group to the largest.
#include "store/tier_plan.hpp"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>

#include "base/error.hpp"
#include "fast_tier/resident_table.hpp"

namespace tieralloc {
namespace {

/// Tables that share a tier.
struct Group {
  std::uint32_t stride = 0;
  std::uint32_t row_bytes = 0;
  RowId rows = 0;
  std::uint64_t reserved_bytes = 0;
  std::vector<std::uint32_t> tables{};
};

// If rows are read in place, spare slots also hold updates until the slow tier has them.
constexpr Slot kMinStagingSlots = 64;

// Of the budget: one resident table, and all of them.
constexpr std::uint64_t kTableShare = 64;
constexpr std::uint64_t kTablesShare = 4;

TierPlan plan_for_capacity(const Group& group, Slot capacity, bool in_place) {
  const Slot spares = std::max(spare_slots(capacity), in_place ? kMinStagingSlots : 0);
  return {group.stride,      group.row_bytes, group.rows,  capacity,
          capacity + spares, in_place,        group.tables};
}

Slot max_capacity(const Group& group) {
  return static_cast<Slot>(std::min<RowId>(group.rows, kMaxSlots - spare_slots(kMaxSlots)));
}

std::uint64_t bytes_for(const Group& group, Slot capacity, const FastBudget& budget,
                        const std::string& policy) {
  return tier_bytes(plan_for_capacity(group, capacity, budget.in_place), policy).total();
}

/// The largest capacity whose tier fits into `bytes`; 0 if one row does not fit.
Slot capacity_within(std::uint64_t bytes, const Group& group, const FastBudget& budget,
                     const std::string& policy) {
  Slot low = 0;
  Slot high = max_capacity(group);
  while (low < high) {
    const Slot middle = low + (high - low + 1) / 2;
    if (bytes_for(group, middle, budget, policy) <= bytes) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

std::vector<Group> group_tables(const std::vector<TableLayout>& tables) {
  std::map<std::pair<std::uint32_t, std::uint32_t>, Group> by_size;
  std::vector<Group> groups;
  for (std::uint32_t i = 0; i < tables.size(); ++i) {
    const TableLayout& table = tables[i];
    if (table.rows == 0) continue;
    const std::uint32_t stride = slot_stride(table);
    const std::uint32_t row_bytes = copied_bytes(table);
    if (table.reserved_bytes > 0) {
      groups.push_back({stride, row_bytes, table.rows, table.reserved_bytes, {i}});
      continue;
    }
    Group& group = by_size[{stride, row_bytes}];
    group.stride = stride;
    group.row_bytes = row_bytes;
    group.rows += table.rows;
    group.tables.push_back(i);
  }
  for (auto& [size, group] : by_size) groups.push_back(std::move(group));
  return groups;
}

[[noreturn]] void refuse_reserved(const FastBudget& budget, const Group& group, std::uint64_t left,
                                  const std::vector<TableLayout>& tables) {
  throw std::invalid_argument("fast_bytes: table '" + tables[group.tables.front()].name + "' has " +
                              std::to_string(group.reserved_bytes) +
                              " bytes reserved; expected at most " + std::to_string(left) +
                              " that the " + std::to_string(budget.bytes) +
                              " bytes of the store have left for it");
}

[[noreturn]] void refuse(const FastBudget& budget, const Group& group, std::uint64_t left,
                         std::uint64_t need) {
  const bool by_bytes = budget.bytes > 0;
  const char* unit = by_bytes ? " bytes" : " rows";
  throw std::invalid_argument(
      std::string(by_bytes ? "fast_bytes" : "fast_rows") +
      ": too small for the tables with rows of " + std::to_string(group.stride) +
      " bytes; expected at least " + std::to_string(need) + unit + " for one of them, got " +
      std::to_string(left) + " of " + std::to_string(by_bytes ? budget.bytes : budget.rows));
}

[[noreturn]] void refuse_orders(const FastBudget& budget, std::uint64_t bytes) {
  throw std::invalid_argument("fast_bytes is " + std::to_string(budget.bytes) +
                              ", expected more than the " + std::to_string(bytes) +
                              " bytes of the orders of the tables");
}

[[noreturn]] void refuse_reserved_rows(const TableLayout& table) {
  throw std::invalid_argument("fast_rows: table '" + table.name + "' has " +
                              std::to_string(table.reserved_bytes) +
                              " bytes reserved; expected a store with fast_bytes");
}

/// `held` bytes of them are allocated already.
void check_available(std::uint64_t bytes, std::uint64_t held = 0) {
  const std::uint64_t available = available_memory();
  if (available == 0 || bytes <= held || bytes - held <= available) return;
  throw MemoryShortage("fast tier: not enough memory; expected at most the " +
                       std::to_string(available) + " bytes that the machine has available, got " +
                       std::to_string(bytes));
}

}  // namespace

std::vector<TierPlan> plan_tiers(const std::vector<TableLayout>& tables, const FastBudget& budget,
                                 const std::string& policy, std::uint64_t taken) {
  const bool by_bytes = budget.bytes > 0;
  std::vector<Group> groups = group_tables(tables);
  if (budget.none) {
    std::vector<TierPlan> plans;
    for (const Group& group : groups) plans.push_back(plan_for_capacity(group, 0, true));
    return plans;
  }
  const auto weight = [&](const Group& group) {
    return static_cast<double>(group.rows) * (by_bytes ? group.stride : 1);
  };
  // First the groups whose reserved bytes exceed their share the most: once a group's do not, its
  // share holds them, and so do those of all later groups. Then the smallest first: small groups
  // need more than their share, or less.
  const auto need_of = [&](const Group& group) {
    return static_cast<double>(group.reserved_bytes) / weight(group);
  };
  std::sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) {
    return std::pair(-need_of(a), weight(a)) < std::pair(-need_of(b), weight(b));
  });
  double weight_left = 0;
  for (const Group& group : groups) weight_left += weight(group);
  std::uint64_t left = by_bytes ? budget.bytes - taken : budget.rows;
  std::vector<TierPlan> plans;
  for (const Group& group : groups) {
    const double part = &group == &groups.back() ? 1.0 : weight(group) / weight_left;
    const auto share = static_cast<std::uint64_t>(static_cast<double>(left) * part);
    const std::uint64_t need = by_bytes ? bytes_for(group, 1, budget, policy) : 1;
    if (need > left) refuse(budget, group, left, need);
    if (group.reserved_bytes > left) refuse_reserved(budget, group, left, tables);
    const std::uint64_t given = std::max({share, need, group.reserved_bytes});
    const Slot capacity =
        by_bytes ? capacity_within(given, group, budget, policy)
                 : static_cast<Slot>(std::min<std::uint64_t>(given, max_capacity(group)));
    left -= by_bytes ? bytes_for(group, capacity, budget, policy) : capacity;
    weight_left -= weight(group);
    plans.push_back(plan_for_capacity(group, capacity, budget.in_place));
  }
  std::sort(plans.begin(), plans.end(), [](const TierPlan& a, const TierPlan& b) {
    return std::pair(a.stride, a.tables) < std::pair(b.stride, b.tables);
  });
  return plans;
}

FastPlan plan_fast(const std::vector<TableLayout>& tables, const FastBudget& budget,
                   const std::string& policy) {
  FastPlan plan;
  for (const TableLayout& table : tables) plan.bytes += table.order_bytes();
  if (budget.bytes > 0 && plan.bytes >= budget.bytes) refuse_orders(budget, plan.bytes);
  for (const TableLayout& table : tables) {
    if (table.reserved_bytes > 0 && budget.bytes == 0) refuse_reserved_rows(table);
  }
  std::vector<TableLayout> others;
  std::vector<std::uint32_t> positions;  // of the others
  for (const TableLayout& table : tables) {
    const std::uint64_t bytes = ResidentTable::bytes_for(table);
    const std::uint64_t total = plan.bytes + bytes;
    const bool is_small =
        bytes <= budget.bytes / kTableShare && total <= budget.bytes / kTablesShare;
    const bool fits = table.residency == Residency::always ? total <= budget.bytes : is_small;
    plan.is_resident.push_back(fits && table.residency != Residency::never && table.rows > 0);
    if (plan.is_resident.back()) {
      plan.bytes = total;
    } else {
      positions.push_back(static_cast<std::uint32_t>(plan.is_resident.size() - 1));
      others.push_back(table);
    }
  }
  plan.tiers = plan_tiers(others, budget, policy, plan.bytes);
  for (TierPlan& tier : plan.tiers) {
    for (std::uint32_t& table : tier.tables) table = positions[table];
    plan.bytes += tier_bytes(tier, policy).total();
  }
  return plan;
}

void check_memory(const FastPlan& plan, std::uint64_t held) {
  check_available(plan.bytes, held);
}

void check_budget(const FastBudget& budget, const std::string& policy, std::uint64_t held) {
  if (budget.none && budget.in_place) return;
  if (budget.none) {
    throw std::invalid_argument(
        "fast_rows: too small for a slow tier in a file, whose rows cannot be read in place; "
        "expected at least 1, got 0");
  }
  if ((budget.bytes == 0) == (budget.rows == 0)) {
    throw std::invalid_argument("fast_bytes, fast_rows: expected one of them above 0, got " +
                                std::to_string(budget.bytes) + " and " +
                                std::to_string(budget.rows));
  }
  const Group smallest{.stride = kCacheLine, .rows = 1};
  const std::uint64_t need = bytes_for(smallest, 1, budget, policy);
  if (budget.bytes > 0 && budget.bytes < need) {
    throw std::invalid_argument(
        "fast_bytes: too small for a row with index, spares and metadata "
        "in whole pages; expected at least " +
        std::to_string(need) + ", got " + std::to_string(budget.bytes));
  }
  if (budget.rows > kMaxSlots) {
    throw std::invalid_argument("fast_rows: too large; expected at most " +
                                std::to_string(kMaxSlots) + ", got " + std::to_string(budget.rows));
  }
  check_available(budget.bytes > 0 ? budget.bytes : budget.rows * kCacheLine, held);
}

}  // namespace tieralloc
