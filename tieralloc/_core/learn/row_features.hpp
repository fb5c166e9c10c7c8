// row_features.hpp: what models are told of a row: the names of the features, in their order.
//
// Whoever changes what the same accesses give raises the version: models trained before refuse it
// then. Times count accesses unless they say samples. "log" is log2(1 + value); where there is no
// value to take it of, it is kNever.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tieralloc {

inline constexpr std::uint32_t kRowFeaturesVersion = 2;

/// Stands for the logarithm of a time that has not come.
inline constexpr float kNever = 24.0f;

/// Times between accesses that a row is remembered by.
inline constexpr std::size_t kGaps = 4;

/// Half-lives of the decayed counts, in accesses.
inline constexpr std::array<float, 5> kHalfLives{256, 2048, 16384, 65536, 262144};

/// Tables whose row in a row's last sample tells of the row (its user, its session).
inline constexpr std::size_t kContexts = 4;

/// The half-lives that a context's decayed counts have.
inline constexpr std::array<std::size_t, 3> kContextHalfLives{1, 2, 4};

/// A row that came back after more accesses than this came back.
inline constexpr std::array<std::uint64_t, 2> kReturns{256, 8192};

inline constexpr std::size_t kPlainFeatures = 4 + 2 * kGaps;
inline constexpr std::size_t kOwnLogs = 9 + kHalfLives.size();
inline constexpr std::size_t kContextLogs = 5 + kContextHalfLives.size() + kReturns.size();
inline constexpr std::size_t kRowFeatures =
    kPlainFeatures + kOwnLogs + kContexts * (1 + kContextLogs);

std::vector<std::string> row_feature_names();

}  // namespace tieralloc
