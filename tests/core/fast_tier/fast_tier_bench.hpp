// fast_tier_bench.hpp: a fast tier whose rows have versions.
#pragma once

#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "fast_tier/fast_tier.hpp"

namespace tieralloc::fast_tier_bench {

inline constexpr std::uint32_t kStride = 64;
using Bytes = std::vector<std::byte>;

inline Bytes row_of(std::uint64_t row, std::uint64_t version) {
  Bytes bytes(kStride);
  for (std::size_t i = 0; i < kStride / 8; ++i) {
    const std::uint64_t word = row * 1000000 + version;
    std::memcpy(bytes.data() + 8 * i, &word, 8);
  }
  return bytes;
}

struct Bench {
  EpochManager epochs;
  FastTier tier;

  explicit Bench(Slot capacity, RowId rows = 1000, const std::string& policy = "lru",
                 bool in_place = false)
      : tier({kStride, kStride, rows, capacity, capacity + 8, in_place},
             SlowOffsets({{{0}, 4096, PageLayout::dense(kStride)}}), policy, 1, epochs) {}

  bool admit(RowId row, std::uint64_t version = 0,
             FastTier::Admit why = FastTier::Admit::on_demand) {
    std::lock_guard lock(tier.mutex());
    return tier.admit({row}, row_of(row, version).data(), why);
  }
  bool update(RowId row, std::uint64_t version) {
    std::lock_guard lock(tier.mutex());
    return tier.update({row}, row_of(row, version).data());
  }
  void clean(RowId row) {
    std::lock_guard lock(tier.mutex());
    tier.clean({row});
  }
  void touch(RowId row) {
    const Slot slot = slot_of(tier.find(TierRow{row}));
    tier.touch({&slot, 1});
  }

  /// The resident value, if there is one.
  std::optional<Bytes> find(RowId row) {
    std::lock_guard lock(tier.mutex());
    const Entry entry = tier.find(TierRow{row});
    if (entry == kAbsent) return std::nullopt;
    const std::byte* bytes = tier.row(slot_of(entry));
    return Bytes(bytes, bytes + kStride);
  }
  bool has(RowId row, std::uint64_t version) {
    const auto bytes = find(row);
    return bytes.has_value() && *bytes == row_of(row, version);
  }
};

}  // namespace tieralloc::fast_tier_bench
