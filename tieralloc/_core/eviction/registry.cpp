// registry.cpp: finds an eviction policy by its name and checks its configuration.
#include "eviction/registry.hpp"

#include <array>
#include <stdexcept>

namespace tieralloc {
namespace {

constexpr std::array kKinds{&kLru, &kLfu, &kClock, &kSieve, &kS3Fifo, &kRandom};

/// SlotLists number their list heads after the slots, and LFU has one list per slot.
constexpr std::uint32_t kMaxSlots = (kNoSlot - 2) / 2;

const PolicyKind& find_kind(std::string_view name) {
  for (const PolicyKind* kind : kKinds) {
    if (name == kind->name) return *kind;
  }
  std::string known;
  for (const PolicyKind* kind : kKinds) {
    known += (known.empty() ? "" : ", ") + std::string(kind->name);
  }
  throw std::invalid_argument("policy: unknown; expected one of " + known + ", got '" +
                              std::string(name) + "'");
}

void check(const EvictionConfig& config) {
  if (config.capacity < 1) {
    throw std::invalid_argument("capacity: too small; expected at least 1 row, got 0");
  }
  if (config.slots < config.capacity || config.slots > kMaxSlots) {
    throw std::invalid_argument("slots: out of range; expected " + std::to_string(config.capacity) +
                                " to " + std::to_string(kMaxSlots) + ", got " +
                                std::to_string(config.slots));
  }
}

}  // namespace

std::vector<std::string> eviction_policy_names() {
  std::vector<std::string> names;
  for (const PolicyKind* kind : kKinds) names.emplace_back(kind->name);
  return names;
}

std::unique_ptr<EvictionPolicy> make_eviction_policy(std::string_view name,
                                                     const EvictionConfig& config) {
  const PolicyKind& kind = find_kind(name);
  check(config);
  return kind.make(config);
}

std::size_t eviction_policy_bytes(std::string_view name, const EvictionConfig& config) {
  const PolicyKind& kind = find_kind(name);
  check(config);
  return kind.bytes(config);
}

}  // namespace tieralloc
