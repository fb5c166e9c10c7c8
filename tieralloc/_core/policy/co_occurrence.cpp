// co_occurrence.cpp: finds and updates records.
#include "policy/co_occurrence.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/split_mix.hpp"

namespace tieralloc {
namespace {

std::uint32_t entry_tag(RowId row) {
  return static_cast<std::uint32_t>(SplitMix64::mix(row) >> 32) | 1;
}

std::uint64_t word_at(const std::uint8_t* bytes) {
  std::uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

std::size_t places_for(std::uint32_t capacity) {
  return (std::size_t{std::max(capacity, 1u)} + 1) / 2 * 2;
}

}  // namespace

CoOccurrence::CoOccurrence(std::uint32_t capacity)
    : memory_(places_for(capacity) * sizeof(Place), "co-occurrence records"),
      places_(memory_.as<Place>(), places_for(capacity)) {}

std::size_t CoOccurrence::bytes(std::uint32_t capacity) {
  return sizeof(CoOccurrence) + Region::size_for(places_for(capacity) * sizeof(Place));
}

const CoOccurrence::Place& CoOccurrence::bucket_of(RowId row) const {
  const std::uint64_t hash = SplitMix64::mix(row) & 0xFFFFFFFFu;
  return places_[kWays * static_cast<std::size_t>(hash * (places_.size() / kWays) >> 32)];
}

void CoOccurrence::prefetch(RowId row) const {
  const auto* bytes = reinterpret_cast<const std::byte*>(&bucket_of(row));
  for (std::size_t at = 0; at < kWays * sizeof(Place); at += kCacheLine) {
    __builtin_prefetch(bytes + at);
  }
}

CoOccurrence::Record& CoOccurrence::record_of(RowId row) {
  const std::uint32_t tag = entry_tag(row);
  Place* const bucket = const_cast<Place*>(&bucket_of(row));
  Record* victim = &bucket->record;
  for (std::size_t way = 0; way < kWays; ++way) {
    Record& record = bucket[way].record;
    if (record.tag_ == tag) return record;
    const std::uint64_t age = now_ - record.last_, other = now_ - victim->last_;
    if (age * victim->accesses_ > other * record.accesses_) victim = &record;
  }
  *victim = Record{};
  victim->tag_ = tag;
  return *victim;
}

const CoOccurrence::Record& CoOccurrence::observe(RowId row, bool is_cold) {
  ++now_;
  Record& own = record_of(row);
  own.last_ = now_;
  const std::uint32_t window = std::min<std::uint32_t>(position_, kWindow);
  for (std::uint32_t apart = 1; apart <= window; ++apart) {
    const std::uint32_t at = (position_ - apart) % kWindow;
    if (recent_[at] == row) continue;
    if (recent_is_cold_[at]) own.count(recent_[at]);
    if (!is_cold) continue;
    Record& other = *recent_records_[at];
    if (other.tag_ == entry_tag(recent_[at])) other.count(row);
  }
  if (++own.accesses_ >= kMaxAccesses) own.halve();
  recent_[position_ % kWindow] = row;
  recent_is_cold_[position_ % kWindow] = is_cold;
  recent_records_[position_++ % kWindow] = &own;
  return own;
}

void CoOccurrence::Record::count(RowId partner) {
  std::uint32_t place = find(partner);
  if (place < size_) {
    if (times_[place] < kMaxTimes) ++times_[place];
    return;
  }
  if (size_ < kPartners) {
    place = size_++;
  } else {
    place = min_count_partner();
    next_ = static_cast<std::uint8_t>((place + 1) % kPartners);
  }
  bottom_[place] = static_cast<std::uint8_t>(partner);
  middle_[place] = static_cast<std::uint32_t>(partner >> 8);
  top_[place] = static_cast<std::uint8_t>(partner >> 40);
  times_[place] = 1;
}

/// Compares eight of the lowest bytes at a time.
std::uint32_t CoOccurrence::Record::find(RowId partner) const {
  constexpr std::uint64_t kOnes = 0x0101010101010101u, kHighs = 0x8080808080808080u;
  for (std::uint32_t first = 0; first < size_; first += 8) {
    const std::uint64_t differences = word_at(&bottom_[first]) ^ (partner & 0xFF) * kOnes;
    // The high bit of each byte that is 0 and, rarely, of a byte above it.
    std::uint64_t equal = (differences - kOnes) & ~differences & kHighs;
    for (; equal != 0; equal &= equal - 1) {
      const std::uint32_t place = first + static_cast<std::uint32_t>(std::countr_zero(equal)) / 8;
      if (place < size_ && row(place) == partner) return place;
    }
  }
  return kPartners;
}

/// The next partner, round-robin, among those with the lowest count.
std::uint32_t CoOccurrence::Record::min_count_partner() const {
  std::uint8_t min_times = kMaxTimes;
  for (const std::uint8_t times : times_) min_times = std::min(min_times, times);
  std::uint32_t place = next_;
  while (times_[place] != min_times) place = (place + 1) % kPartners;
  return place;
}

void CoOccurrence::Record::halve() {
  accesses_ /= 2;
  for (std::uint8_t& times : times_) times /= 2;
}

}  // namespace tieralloc
