// co_occurrence.hpp: which rows are accessed in the same samples as a row.
//
// A record of 256 bytes per row counts its accesses and, of up to kPartners other rows, how often
// they came within kWindow accesses of it in a sample. Only cold accesses make a partner: those to
// rows that had not been accessed recently, and may have to be fetched. Where both counters of a
// record are at their most, all are halved. Records lie in buckets of two, by hash; a new row takes
// the place of the record with the longest time since its access per access. Two rows with equal
// tags share a record: an error in an estimate. Every call is O(1). Not for concurrent use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

/// Rows that a CoOccurrence takes are below this.
inline constexpr RowId kMaxPartnerRow = RowId{1} << 48;

class CoOccurrence {
 public:
  static constexpr std::size_t kPartners = 32;
  static constexpr std::size_t kWindow = 8;

  /// What is known of a row: its accesses, and its partners in no order. A search for a partner
  /// reads one cache line and, where that may be the one, another.
  class Record {
   public:
    std::uint32_t accesses() const { return accesses_; }
    std::uint32_t size() const { return size_; }
    RowId row(std::uint32_t partner) const {
      return RowId{top_[partner]} << 40 | RowId{middle_[partner]} << 8 | bottom_[partner];
    }
    /// How often it came with the row, as far as the row's accesses count.
    std::uint32_t times(std::uint32_t partner) const { return times_[partner]; }

   private:
    friend class CoOccurrence;

    void count(RowId partner);
    void halve();
    std::uint32_t find(RowId partner) const;
    std::uint32_t least_counted() const;

    std::uint32_t tag_ = 0;  ///< of the row; 0: no row
    std::uint32_t last_ = 0;
    std::uint16_t accesses_ = 0;
    std::uint8_t size_ = 0;
    std::uint8_t next_ = 0;  ///< where the search for a partner to replace begins
    std::array<std::uint8_t, kPartners> bottom_{};  ///< bits of the partners' rows
    std::array<std::uint8_t, kPartners> times_{};
    std::array<std::uint8_t, kPartners> top_{};
    std::array<std::uint32_t, kPartners> middle_{};
  };

  /// Remembers at least so many rows.
  explicit CoOccurrence(std::uint32_t capacity);

  static std::size_t bytes(std::uint32_t capacity);

  void begin_sample() { position_ = 0; }

  /// An access to a row, cold or not. Returns what is known of it, this access included, until the
  /// next call.
  const Record& observe(RowId row, bool is_cold);

  void prefetch(RowId row) const { __builtin_prefetch(&bucket_of(row)); }

 private:
  static constexpr std::size_t kWays = 2;
  static constexpr std::uint8_t kMaxTimes = 255;
  static constexpr std::uint16_t kMaxAccesses = 64;

  static_assert(sizeof(Record) <= 256);
  struct alignas(4 * kCacheLine) Place {
    Record record;
  };

  const Place& bucket_of(RowId row) const;
  Record& record_of(RowId row);

  std::vector<Place> places_;
  std::uint32_t now_ = 0;
  std::array<RowId, kWindow> recent_{};  ///< rows of the sample's last accesses, a ring
  std::array<Record*, kWindow> recent_records_{};
  std::array<bool, kWindow> recent_is_cold_{};
  std::uint32_t position_ = 0;  ///< accesses of the sample so far
};

}  // namespace tieralloc
