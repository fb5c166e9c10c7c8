#include "sample_log.hpp"

#include <algorithm>
#include <string>

#include "../split_mix.hpp"

namespace tieralloc {
namespace {

constexpr std::uint32_t kMostAccesses = 1u << 31;

std::uint32_t checked(std::uint32_t capacity) {
  if (capacity > 0 && capacity < kMostAccesses) return capacity;
  throw std::invalid_argument("capacity is " + std::to_string(capacity) +
                              " accesses, expected at least 1 and below " +
                              std::to_string(kMostAccesses));
}

/// Fewer than accesses, most of which are to rows that were accessed before.
std::uint32_t buckets_for(std::uint32_t capacity) {
  return capacity / 2 + 1;
}

}  // namespace

SampleLog::SampleLog(std::uint32_t capacity)
    : heads_(buckets_for(checked(capacity)), kNone),
      back_(capacity),
      low_(capacity),
      high_(capacity),
      last_(capacity - 1) {}

std::size_t SampleLog::bytes(std::uint32_t capacity) {
  return buckets_for(capacity) * sizeof(std::uint32_t) +
         capacity * (2 * sizeof(std::uint32_t) + sizeof(std::uint16_t));
}

std::size_t SampleLog::bucket(RowId row) const {
  return static_cast<std::size_t>((SplitMix64::mix(row) >> 32) * heads_.size() >> 32);
}

void SampleLog::append(RowId row) {
  const auto capacity = static_cast<std::uint32_t>(low_.size());
  last_ = last_ + 1 == capacity ? 0 : last_ + 1;
  size_ = std::min(size_ + 1, capacity);
  std::uint32_t& head = heads_[bucket(row)];
  std::uint32_t back = kNone;
  if (head != kNone) back = last_ > head ? last_ - head : last_ + capacity - head;
  back_[last_] = back;
  low_[last_] = static_cast<std::uint32_t>(row);
  high_[last_] = static_cast<std::uint16_t>(row >> 32 | (begins_ ? kBegins : 0));
  begins_ = false;
  head = last_;
}

RowId SampleLog::row(Age age) const {
  const std::uint32_t at = place(age);
  return RowId{static_cast<std::uint16_t>(high_[at] & ~kBegins)} << 32 | low_[at];
}

void SampleLog::prefetch_earlier(RowId row) const {
  const std::uint32_t head = heads_[bucket(row)];
  if (head == kNone) return;
  __builtin_prefetch(&back_[head]);
  __builtin_prefetch(&low_[head]);
  __builtin_prefetch(&high_[head]);
}

}  // namespace tieralloc
