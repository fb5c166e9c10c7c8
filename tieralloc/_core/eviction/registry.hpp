// registry.hpp: how a policy makes itself known.
//
// A policy is a file of its own that defines its PolicyKind; registry.cpp lists them.
#pragma once

#include <cstddef>
#include <memory>

#include "eviction/policy.hpp"

namespace tieralloc {

struct PolicyKind {
  const char* name;
  std::unique_ptr<EvictionPolicy> (*make)(const EvictionConfig& config);
  std::size_t (*bytes)(const EvictionConfig& config);
};

/// The kind of a policy class with a constructor from EvictionConfig and a static `bytes` that
/// says what an object takes beyond itself.
template <typename Policy>
constexpr PolicyKind policy_kind(const char* name) {
  return {name,
          [](const EvictionConfig& config) -> std::unique_ptr<EvictionPolicy> {
            return std::make_unique<Policy>(config);
          },
          [](const EvictionConfig& config) { return sizeof(Policy) + Policy::bytes(config); }};
}

extern const PolicyKind kLru;
extern const PolicyKind kLfu;
extern const PolicyKind kClock;
extern const PolicyKind kSieve;
extern const PolicyKind kS3Fifo;
extern const PolicyKind kRandom;

}  // namespace tieralloc
