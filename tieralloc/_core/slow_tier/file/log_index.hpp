// log_index.hpp: where a segment of the redo log has the values of rows.
//
// Open addressing: an entry lies at its hash or in the next free place. Entries are not removed.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "base/memory.hpp"
#include "base/types.hpp"

namespace tieralloc {

class LogIndex {
 public:
  struct Entry {
    std::uint64_t row = 0;  ///< offset in the pool
    std::uint64_t at = 0;   ///< offset in the segment; 0: the place is free
  };

  std::size_t size() const { return size_; }
  std::size_t bytes() const { return memory_.size(); }

  /// Makes room for `n` further rows. Readers under `mutex` wait only while tables are swapped.
  /// Throws MemoryShortage.
  void reserve(std::size_t n, std::mutex& mutex) {
    if (2 * (size_ + n) <= places_.size()) return;
    LogIndex larger = copy(n);
    std::lock_guard lock(mutex);
    std::swap(*this, larger);
  }

  /// A copy with room for `n` further rows. Throws MemoryShortage.
  LogIndex copy(std::size_t n) const {
    const std::size_t size = std::bit_ceil(std::max(kMinPlaces, 2 * (size_ + n)));
    LogIndex copy;
    copy.memory_ = Region(size * sizeof(Entry), "redo log", Filled::gradual);
    copy.places_ = {copy.memory_.as<Entry>(), size};
    copy.size_ = size_;
    for (const Entry& entry : places_) {
      if (entry.at != 0) copy.places_[place_of(copy.places_, entry.row)] = entry;
    }
    return copy;
  }

  /// Before `put`.
  void prefetch(std::uint64_t row) const { prefetch_to_l2(&places_[hash_of(places_, row)]); }

  /// Adds or replaces an entry. Requires room.
  void put(Entry entry) {
    Entry& place = places_[place_of(places_, entry.row)];
    if (place.at == 0) ++size_;
    place = entry;
  }

  /// The offset in the segment; 0 if there is no such row.
  std::uint64_t find(std::uint64_t row) const {
    return size_ == 0 ? 0 : places_[place_of(places_, row)].at;
  }

  /// Removes all entries, and keeps the room.
  void clear() {
    std::fill(places_.begin(), places_.end(), Entry{});
    size_ = 0;
  }

  /// In order of rows.
  std::vector<Entry> sorted() const {
    std::vector<Entry> entries;
    entries.reserve(size_);
    std::copy_if(places_.begin(), places_.end(), std::back_inserter(entries),
                 [](const Entry& entry) { return entry.at != 0; });
    std::sort(entries.begin(), entries.end(),
              [](const Entry& one, const Entry& other) { return one.row < other.row; });
    return entries;
  }

 private:
  static constexpr std::size_t kMinPlaces = 1024;

  static std::size_t hash_of(std::span<const Entry> places, std::uint64_t row) {
    const std::uint64_t hash = (row ^ row >> 32) * 0x9E3779B97F4A7C15u;
    return hash >> (65 - std::bit_width(places.size()));
  }

  /// The place of a row, or the free one where it belongs. At most half of the places are taken.
  static std::size_t place_of(std::span<const Entry> places, std::uint64_t row) {
    std::size_t place = hash_of(places, row);
    while (places[place].at != 0 && places[place].row != row) {
      place = (place + 1) & (places.size() - 1);
    }
    return place;
  }

  Region memory_;
  std::span<Entry> places_;
  std::size_t size_ = 0;
};

}  // namespace tieralloc
