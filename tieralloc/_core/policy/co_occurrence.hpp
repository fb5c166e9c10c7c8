// co_occurrence.hpp: counts which rows are accessed together in samples.
//
//   observe(row):
//     for each of the last kWindow accesses of the sample, to another row:
//       if that access was cold: count it as a partner of the row
//       if this access is cold:  count the row as a partner of that one
//     count the row's access; at kMaxAccesses halve all counts of its record
// Only cold accesses make a partner: those to rows not accessed recently, which a prefetch could
// fetch. A record takes 256 bytes; it holds the row's accesses and up to kPartners partners. A new
// partner replaces one with the lowest count. Records lie in buckets of two, by the row's hash; a
// new row replaces the record with the most time since its access per access. Rows with equal tags
// share a record: an error in an estimate. Every call is O(1). Not for concurrent use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/memory.hpp"
#include "base/types.hpp"

namespace tieralloc {

/// Rows observed by a CoOccurrence must be below this.
inline constexpr RowId kMaxPartnerRow = RowId{1} << 48;

class CoOccurrence {
 public:
  static constexpr std::size_t kPartners = 32;
  static constexpr std::size_t kWindow = 8;

  /// The accesses of a row and its partners, in no order. A search for a partner reads one cache
  /// line, and another one if the lowest byte of a partner matches.
  class Record {
   public:
    std::uint32_t accesses() const { return accesses_; }
    std::uint32_t size() const { return size_; }
    RowId row(std::uint32_t partner) const {
      return RowId{top_[partner]} << 40 | RowId{middle_[partner]} << 8 | bottom_[partner];
    }
    /// Accesses of the partner near the row, decayed as the row's accesses are.
    std::uint32_t times(std::uint32_t partner) const { return times_[partner]; }

   private:
    friend class CoOccurrence;

    void count(RowId partner);
    void halve();
    std::uint32_t find(RowId partner) const;
    std::uint32_t min_count_partner() const;

    std::uint32_t tag_ = 0;  ///< of the row; 0: no row
    std::uint32_t last_ = 0;
    std::uint16_t accesses_ = 0;
    std::uint8_t size_ = 0;
    std::uint8_t next_ = 0;                         ///< first partner considered for replacement
    std::array<std::uint8_t, kPartners> bottom_{};  ///< bits of the partners' rows
    std::array<std::uint8_t, kPartners> times_{};
    std::array<std::uint8_t, kPartners> top_{};
    std::array<std::uint32_t, kPartners> middle_{};
  };

  /// Holds records of at least `capacity` rows.
  explicit CoOccurrence(std::uint32_t capacity);

  static std::size_t bytes(std::uint32_t capacity);

  void begin_sample() { position_ = 0; }
  /// Loads the row's bucket into the CPU cache.
  void prefetch(RowId row) const;

  /// Observes an access, cold or not. Returns the row's record, with this access, valid until the
  /// next call.
  const Record& observe(RowId row, bool is_cold);

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

  Region memory_;
  std::span<Place> places_;  ///< filled with zeros: no records
  std::uint32_t now_ = 0;
  std::array<RowId, kWindow> recent_{};  ///< rows of the sample's last accesses, a ring
  std::array<Record*, kWindow> recent_records_{};
  std::array<bool, kWindow> recent_is_cold_{};
  std::uint32_t position_ = 0;  ///< accesses of the sample so far
};

}  // namespace tieralloc
