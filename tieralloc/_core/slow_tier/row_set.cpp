// row_set.cpp: the choice of the smallest form.
#include "slow_tier/row_set.hpp"

#include <algorithm>
#include <limits>

namespace tieralloc {
namespace {

template <typename Low>
constexpr std::uint64_t kBlockRows = std::uint64_t{std::numeric_limits<Low>::max()} + 1;

template <typename Low>
std::uint64_t bytes_of_lows(std::uint64_t rows, std::uint64_t members) {
  return (rows / kBlockRows<Low> + 2) * sizeof(std::uint32_t) + members * sizeof(Low);
}

template <typename Low>
std::vector<Low> lows_of(std::uint64_t rows, std::span<const std::uint64_t> members,
                         std::vector<std::uint32_t>& starts) {
  starts.assign(rows / kBlockRows<Low> + 2, 0);
  for (const std::uint64_t row : members) ++starts[row / kBlockRows<Low> + 1];
  for (std::size_t block = 1; block < starts.size(); ++block) starts[block] += starts[block - 1];
  std::vector<Low> lows;
  lows.reserve(members.size());
  for (const std::uint64_t row : members) lows.push_back(static_cast<Low>(row));
  return lows;
}

}  // namespace

RowSet::RowSet(std::uint64_t rows, std::span<const std::uint64_t> members) {
  const std::uint64_t bits = RankedBits::bytes_for(rows);
  const std::uint64_t low8 = bytes_of_lows<std::uint8_t>(rows, members.size());
  const std::uint64_t low16 = bytes_of_lows<std::uint16_t>(rows, members.size());
  if (bits <= std::min(low8, low16)) {
    bits_ = RankedBits(rows);
    for (const std::uint64_t row : members) bits_.set(row);
    bits_.count();
  } else if (low8 <= low16) {
    form_ = Form::low8;
    lows8_ = lows_of<std::uint8_t>(rows, members, starts_);
  } else {
    form_ = Form::low16;
    lows16_ = lows_of<std::uint16_t>(rows, members, starts_);
  }
}

template <typename Low>
RowSet::Position RowSet::find_low(const std::vector<Low>& lows, std::uint64_t row) const {
  const std::uint64_t block = row / kBlockRows<Low>;
  const Low* const begin = lows.data() + starts_[block];
  const Low* const end = lows.data() + starts_[block + 1];
  const Low* const at = std::lower_bound(begin, end, static_cast<Low>(row));
  return {at != end && *at == static_cast<Low>(row), static_cast<std::uint64_t>(at - lows.data())};
}

RowSet::Position RowSet::find(std::uint64_t row) const {
  switch (form_) {
    case Form::low8:
      return find_low(lows8_, row);
    case Form::low16:
      return find_low(lows16_, row);
    default:
      return {bits_[row], bits_.rank(row)};
  }
}

std::uint64_t RowSet::bytes() const {
  return bits_.bytes() + starts_.size() * sizeof(std::uint32_t) + lows8_.size() +
         lows16_.size() * sizeof(std::uint16_t);
}

}  // namespace tieralloc
