#include "co_occurrence.hpp"

#include <algorithm>

#include "../split_mix.hpp"

namespace tieralloc {
namespace {

std::uint32_t tag_of(RowId row) {
  return static_cast<std::uint32_t>(SplitMix64::mix(row) >> 32) | 1;
}

std::size_t places_for(std::uint32_t capacity) {
  return (std::size_t{capacity} + 1) / 2 * 2;
}

}  // namespace

CoOccurrence::CoOccurrence(std::uint32_t capacity) : places_(places_for(std::max(capacity, 1u))) {}

std::size_t CoOccurrence::bytes(std::uint32_t capacity) {
  return sizeof(CoOccurrence) + places_for(std::max(capacity, 1u)) * sizeof(Place);
}

const CoOccurrence::Place& CoOccurrence::bucket_of(RowId row) const {
  const std::uint64_t hash = SplitMix64::mix(row) & 0xFFFFFFFFu;
  return places_[kWays * static_cast<std::size_t>(hash * (places_.size() / kWays) >> 32)];
}

CoOccurrence::Record& CoOccurrence::record_of(RowId row) {
  const std::uint32_t tag = tag_of(row);
  Place* const bucket = const_cast<Place*>(&bucket_of(row));
  Record* worst = &bucket->record;
  for (std::size_t way = 0; way < kWays; ++way) {
    Record& record = bucket[way].record;
    if (record.tag == tag) return record;
    const std::uint64_t age = now_ - record.last, other = now_ - worst->last;
    if (age * worst->accesses > other * record.accesses) worst = &record;
  }
  *worst = Record{};
  worst->tag = tag;
  return *worst;
}

void CoOccurrence::observe(RowId row, bool is_cold, Partners& partners) {
  ++now_;
  Record& own = record_of(row);
  own.last = now_;
  const std::uint32_t window = std::min<std::uint32_t>(position_, kWindow);
  for (std::uint32_t apart = 1; apart <= window; ++apart) {
    const std::uint32_t at = (position_ - apart) % kWindow;
    if (recent_[at] == row) continue;
    if (recent_is_cold_[at]) count(own, recent_[at]);
    if (!is_cold) continue;
    Record& other = *recent_records_[at];
    if (other.tag == tag_of(recent_[at])) count(other, row);
  }
  if (++own.accesses >= kMaxAccesses) age(own);
  recent_[position_ % kWindow] = row;
  recent_is_cold_[position_ % kWindow] = is_cold;
  recent_records_[position_++ % kWindow] = &own;
  partners.accesses = own.accesses;
  partners.size = own.size;
  for (std::uint32_t i = 0; i < own.size; ++i) {
    partners.partners[i] = {RowId{own.high[i]} << 32 | own.low[i], own.times[i]};
  }
}

void CoOccurrence::count(Record& record, RowId partner) {
  const auto low = static_cast<std::uint32_t>(partner);
  const auto high = static_cast<std::uint16_t>(partner >> 32);
  for (std::uint32_t i = 0; i < record.size; ++i) {
    if (record.low[i] != low || record.high[i] != high) continue;
    if (record.times[i] < kMaxTimes) ++record.times[i];
    return;
  }
  std::uint32_t place = record.size;
  if (place < kPartners) {
    ++record.size;
  } else {
    // Of those counted least, the next in a circle.
    place = record.next;
    for (std::uint32_t i = 0; i < kPartners; ++i) {
      const std::uint32_t other = (record.next + i) % kPartners;
      if (record.times[other] < record.times[place]) place = other;
    }
    record.next = static_cast<std::uint8_t>((place + 1) % kPartners);
  }
  record.low[place] = low;
  record.high[place] = high;
  record.times[place] = 1;
}

void CoOccurrence::age(Record& record) {
  record.accesses /= 2;
  for (std::uint32_t i = 0; i < record.size; ++i) record.times[i] /= 2;
}

}  // namespace tieralloc
