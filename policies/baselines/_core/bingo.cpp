#include "bingo.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <stdexcept>
#include <string>
#include <utility>

namespace tieralloc::baselines {
namespace {

const BingoSettings& checked(const BingoSettings& settings) {
  check_setting("region", settings.region, 2, 64);
  if (!is_power_of_two(settings.region)) {
    throw std::invalid_argument("region is " + std::to_string(settings.region) +
                                ", expected a power of two");
  }
  check_setting("active", settings.active, 1, 1u << 31);
  check_setting("history", settings.history, 1, 1u << 31);
  check_setting("voters", settings.voters, 1, 1 << 16);
  check_share("votes", settings.votes > 1 ? 1.0 : settings.votes);
  return settings;
}

std::uint32_t tables_in(const std::vector<std::uint32_t>& table_of) {
  return table_of.empty() ? 1 : 1 + *std::max_element(table_of.begin(), table_of.end());
}

}  // namespace

Bingo::Bingo(const BingoSettings& settings, std::vector<std::uint32_t> table_of)
    : settings_(checked(settings)),
      table_of_(std::move(table_of)),
      active_(settings.active),
      generations_(settings.active),
      history_(settings.history),
      footprints_(settings.history),
      by_short_event_(settings.history, tables_in(table_of_) * settings.region) {}

std::size_t Bingo::bytes() const {
  return sizeof(*this) + KeyQueue<RowId>::bytes(settings_.active) +
         generations_.size() * sizeof(Generation) + KeyQueue<RowId>::bytes(settings_.history) +
         footprints_.size() * sizeof(std::uint64_t) +
         SlotLists::bytes(settings_.history, tables_in(table_of_) * settings_.region);
}

void Bingo::observe(RowId row, Found, std::vector<RowId>& prefetches) {
  if (row >= table_of_.size()) {
    throw std::out_of_range("row is " + std::to_string(row) + ", expected below " +
                            std::to_string(table_of_.size()));
  }
  const RowId region = row / settings_.region;
  Entry active = active_.find(region);
  if (active != KeyQueue<RowId>::kNoEntry) {
    active_.renew(active);
    generations_[active].footprint |= bit_of(row);
    return;
  }
  const std::uint64_t others = predict(row) & ~bit_of(row);
  for (std::uint64_t left = others; left != 0; left &= left - 1) {
    const RowId other = region * settings_.region + static_cast<RowId>(std::countr_zero(left));
    if (other < table_of_.size()) prefetches.push_back(other);
  }
  if (active_.full()) end(active_.oldest());
  active = active_.push(region);
  generations_[active] = {row, bit_of(row)};
}

void Bingo::evicted(RowId row) {
  const Entry active = active_.find(row / settings_.region);
  if (active == KeyQueue<RowId>::kNoEntry) return;
  if ((generations_[active].footprint & bit_of(row)) != 0) end(active);
}

/// The footprint of the longest matching event.
std::uint64_t Bingo::predict(RowId trigger) const {
  const Entry same = history_.find(trigger);
  if (same != KeyQueue<RowId>::kNoEntry) return footprints_[same];
  if (settings_.votes > 1) return 0;
  std::array<std::uint32_t, 64> votes{};
  std::uint32_t voters = 0;
  for (Slot entry = by_short_event_.back(short_event(trigger));
       entry != kNoSlot && voters < settings_.voters; entry = by_short_event_.prev(entry)) {
    ++voters;
    for (std::uint64_t left = footprints_[entry]; left != 0; left &= left - 1) {
      ++votes[std::countr_zero(left)];
    }
  }
  std::uint64_t footprint = 0;
  for (std::uint32_t place = 0; voters > 0 && place < settings_.region; ++place) {
    if (votes[place] > 0 && votes[place] >= settings_.votes * voters) {
      footprint |= std::uint64_t{1} << place;
    }
  }
  return footprint;
}

/// Ends a generation. A footprint of its trigger alone predicts nothing and is dropped.
void Bingo::end(Entry active) {
  const Generation ended = generations_[active];
  active_.erase(active);
  if (std::popcount(ended.footprint) < 2) return;
  Entry entry = history_.find(ended.trigger);
  if (entry != KeyQueue<RowId>::kNoEntry) {
    history_.renew(entry);
    by_short_event_.erase(entry);
  } else {
    if (history_.full()) {
      by_short_event_.erase(history_.oldest());
      history_.pop();
    }
    entry = history_.push(ended.trigger);
  }
  footprints_[entry] = ended.footprint;
  by_short_event_.push_back(short_event(ended.trigger), entry);
}

}  // namespace tieralloc::baselines
