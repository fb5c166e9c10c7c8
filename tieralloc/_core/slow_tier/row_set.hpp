// row_set.hpp: a set of rows of a table that counts its members below a row.
//
// One of three forms, the smallest: a bit per row of the table (bits); or sorted low bytes of the
// members (8 or 16 bits each), in blocks of 256 or 65,536 rows, with the start of each block. The
// last two are for few members in a large table.
//
// Immutable. Cost: O(1) in bits, O(log members of a block) else.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "slow_tier/ranked_bits.hpp"

namespace tieralloc {

class RowSet {
 public:
  RowSet() = default;
  /// `members` ascend, each once, below `rows`.
  RowSet(std::uint64_t rows, std::span<const std::uint64_t> members);

  struct Position {
    bool is_member = false;
    std::uint64_t members_below = 0;
  };
  /// Of a row below `rows`.
  Position find(std::uint64_t row) const;

  std::uint64_t bytes() const;

 private:
  enum class Form { bits, low8, low16 };

  template <typename Low>
  Position find_low(const std::vector<Low>& lows, std::uint64_t row) const;

  Form form_ = Form::bits;
  RankedBits bits_;
  std::vector<std::uint32_t> starts_;  ///< of each block, and the end of the last
  std::vector<std::uint8_t> lows8_;
  std::vector<std::uint16_t> lows16_;
};

}  // namespace tieralloc
