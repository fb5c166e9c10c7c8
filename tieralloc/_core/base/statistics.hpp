// statistics.hpp: statistics as a tree of named values, and the macros that declare and list them.
//
// A group of statistics is one list, a macro that applies X to each entry. The struct, the sums and
// the tree follow from it, and the bindings convert the tree without a line per name. A new
// statistic takes a line in its list and a documented field in tieralloc/stats.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tieralloc {

struct Statistic;
using Statistics = std::vector<Statistic>;  ///< a group, in order
/// A group that does not apply, such as the promotion of a slow tier in a file, is std::monostate.
using StatisticValue =
    std::variant<std::monostate, bool, std::uint64_t, double, std::string, std::vector<int>,
                 std::vector<std::uint64_t>, Statistics, std::vector<Statistics>>;

struct Statistic {
  std::string name;
  StatisticValue value;
};

/// Appends a value to the group of this name, which it adds if missing; "": to `statistics` itself.
inline void add_statistic(Statistics& statistics, std::string_view group, std::string name,
                          StatisticValue value) {
  Statistics* target = &statistics;
  if (!group.empty()) {
    Statistic* found = nullptr;
    for (Statistic& statistic : statistics) {
      if (statistic.name == group) found = &statistic;
    }
    if (found == nullptr) {
      statistics.push_back({std::string(group), Statistics{}});
      found = &statistics.back();
    }
    target = &std::get<Statistics>(found->value);
  }
  target->push_back({std::move(name), std::move(value)});
}

using NamedRatios = std::vector<std::pair<std::string, double>>;

inline Statistics statistics_of(const NamedRatios& ratios) {
  Statistics statistics;
  for (const auto& [name, ratio] : ratios) statistics.push_back({name, ratio});
  return statistics;
}

template <typename T>
concept HasStatistics = requires(const T& value) { statistics_of(value); };

template <HasStatistics T>
std::vector<Statistics> statistics_of_each(const std::vector<T>& values) {
  std::vector<Statistics> each;
  for (const T& value : values) each.push_back(statistics_of(value));
  return each;
}

template <typename T>
StatisticValue statistic_value(const T& value) {
  if constexpr (HasStatistics<T>) {
    return statistics_of(value);
  } else {
    return value;
  }
}

template <HasStatistics T>
StatisticValue statistic_value(const std::vector<T>& values) {
  return statistics_of_each(values);
}

}  // namespace tieralloc

// For lists of X(type, name) or X(type, name, initial value).
#define TIERALLOC_FIELD(type, name, ...) type name{__VA_ARGS__};
#define TIERALLOC_ADD_FIELD(type, name, ...) \
  add_statistic(statistics, "", #name, statistic_value(source.name));
// For lists of X(group, type, name).
#define TIERALLOC_GROUP_FIELD(group, type, name) type name{};
#define TIERALLOC_ADD_GROUP_FIELD(group, type, name) \
  add_statistic(statistics, group, #name, statistic_value(source.name));
