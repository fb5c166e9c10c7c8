#include "row_features.hpp"

#include <initializer_list>

namespace tieralloc {
namespace {

void add(std::vector<std::string>& names, const std::string& prefix,
         std::initializer_list<const char*> suffixes) {
  for (const char* suffix : suffixes) names.push_back(prefix + suffix);
}

std::string whole(double value) {
  return std::to_string(static_cast<std::uint64_t>(value));
}

}  // namespace

std::vector<std::string> row_feature_names() {
  std::vector<std::string> names;
  // The number of the table; whether its last sample goes on; of its table: the mean log gap, and
  // the share of accesses to rows that were known.
  add(names, "", {"table", "in_sample", "table_gap", "table_known"});
  // Logs of the last times between accesses, and between the last accesses of two samples.
  for (std::size_t i = 0; i < kGaps; ++i) names.push_back("gap_" + std::to_string(i));
  for (std::size_t i = 0; i < kGaps; ++i) names.push_back("sample_gap_" + std::to_string(i));
  // Logs: since its last access, in accesses and in samples; of its accesses and its samples; since
  // its first access, and that divided by its accesses; of its accesses in its last sample; of how
  // many accesses of its bag and of its sample preceded its last one.
  add(names, "", {"age", "sample_age", "count", "samples", "lifetime", "mean_gap"});
  add(names, "", {"burst", "bag_position", "sample_position"});
  // log2(count + 0.001) of its accesses, each halved after so many accesses.
  for (const float half_life : kHalfLives) names.push_back("decayed_" + whole(half_life));
  for (std::size_t context = 0; context < kContexts; ++context) {
    const std::string prefix = "context_" + std::to_string(context) + "_";
    // Of the row that the row's last sample had in a context table. Logs: since its last access,
    // and how long after the row's own that was; of its accesses, and of those since that sample;
    // of the rows that were first seen beside it.
    add(names, prefix, {"age", "lead", "count", "count_since", "newcomers"});
    for (const std::size_t i : kContextHalfLives) {
      names.push_back(prefix + "decayed_" + whole(kHalfLives[i]));
    }
    // log2 of rows that came back after so many accesses, for each newcomer.
    for (const std::uint64_t least : kReturns) names.push_back(prefix + "returns_" + whole(least));
  }
  for (std::size_t context = 0; context < kContexts; ++context) {
    names.push_back("context_" + std::to_string(context) + "_gap");
  }
  return names;
}

}  // namespace tieralloc
