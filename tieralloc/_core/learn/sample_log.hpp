// sample_log.hpp: the last accesses, sample by sample, and where among them each row is.
//
// A ring of accesses; those whose rows hash alike are chained from the latest to the earliest, as
// deflate chains what might match (RFC 1951, section 4). What is overwritten is forgotten, without
// anything to be done about it. All memory is taken at construction; an append is O(1). Not for
// concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "../types.hpp"

namespace tieralloc {

/// Rows that a SampleLog takes are below this.
inline constexpr RowId kMostLoggedRows = RowId{1} << 47;

class SampleLog {
 public:
  /// Accesses ago: 0 is the last one.
  using Age = std::uint32_t;

  /// For the last `capacity` accesses. Throws std::invalid_argument for none, or 2^31 and more.
  explicit SampleLog(std::uint32_t capacity);

  static std::size_t bytes(std::uint32_t capacity);

  /// The accesses that follow are of the next sample.
  void begin_sample() { begins_ = true; }

  /// An access to a row below kMostLoggedRows.
  void append(RowId row);

  /// Accesses that are remembered.
  Age size() const { return size_; }

  RowId row(Age age) const;

  /// Whether an access was the first of its sample.
  bool begins_sample(Age age) const { return (high_[place(age)] & kBegins) != 0; }

  /// Calls `found(age)` for earlier accesses to the row of the last one, the latest first, until it
  /// returns false. Looks at kMostHops accesses at most, some of which are to other rows.
  template <typename Found>
  void for_each_earlier(Found found) const {
    const RowId row = this->row(0);
    Age age = 0;
    for (std::uint32_t hop = 0; hop < kMostHops; ++hop) {
      const std::uint32_t back = back_[place(age)];
      if (back >= size_ - age) return;
      age += back;
      if (this->row(age) == row && !found(age)) return;
    }
  }

  /// Asks for the memory that an access to a row reads first, and then for the rest.
  void prefetch(RowId row) const { __builtin_prefetch(&heads_[bucket(row)]); }
  void prefetch_earlier(RowId row) const;

 private:
  static constexpr std::uint32_t kMostHops = 256;
  static constexpr std::uint16_t kBegins = 0x8000;
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  std::size_t bucket(RowId row) const;

  /// Where in the ring an access is.
  std::uint32_t place(Age age) const {
    return last_ >= age ? last_ - age : last_ + static_cast<std::uint32_t>(low_.size()) - age;
  }

  std::vector<std::uint32_t> heads_;  ///< by bucket: the place of its last access, or kNone
  std::vector<std::uint32_t> back_;   ///< accesses since the one before in the bucket, or kNone
  std::vector<std::uint32_t> low_;    ///< of the row, its lower half
  std::vector<std::uint16_t> high_;   ///< its upper half, and whether a sample begins
  std::uint32_t last_;                ///< place of the last access
  Age size_ = 0;
  bool begins_ = false;
};

}  // namespace tieralloc
