#include "eviction/registry.hpp"

#include <array>
#include <stdexcept>

namespace tieralloc {
namespace {

constexpr std::array kKinds{&kLru, &kLfu, &kClock, &kSieve, &kS3Fifo, &kRandom};

/// The lists keep their heads in the same numbering as the slots, LFU one a slot.
constexpr std::uint32_t kMaxSlots = (kNoSlot - 2) / 2;

const PolicyKind& find_kind(std::string_view name) {
  for (const PolicyKind* kind : kKinds) {
    if (name == kind->name) return *kind;
  }
  std::string message = "eviction policy '" + std::string(name) + "' is unknown; known are";
  const char* separator = " ";
  for (const PolicyKind* kind : kKinds) {
    message += separator + std::string(kind->name);
    separator = ", ";
  }
  throw std::invalid_argument(message);
}

void check(const EvictionConfig& config) {
  if (config.capacity < 1) {
    throw std::invalid_argument("an eviction policy needs a capacity of at least 1 row, got 0");
  }
  if (config.slots < config.capacity || config.slots > kMaxSlots) {
    throw std::invalid_argument("an eviction policy for " + std::to_string(config.capacity) +
                                " rows needs as many slots or more, up to " +
                                std::to_string(kMaxSlots) + ", got " +
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
