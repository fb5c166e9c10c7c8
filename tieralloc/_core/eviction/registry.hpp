// registry.hpp: the list of eviction policies.
//
// Each policy has a file of its own, which defines its PolicyKind; registry.cpp lists them all.
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

/// The kind of a policy class with a constructor from EvictionConfig and a static `bytes`, the
/// bytes that an object allocates.
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
