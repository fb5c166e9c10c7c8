// co_occurrence_prefetcher.cpp: counts partners and chooses the most frequent ones.
#include "co_occurrence_prefetcher.hpp"

#include <algorithm>

namespace tieralloc::baselines {
namespace {

const CoOccurrenceSettings& checked(const CoOccurrenceSettings& settings) {
  check_setting("rows", settings.rows, 1, 1u << 31);
  check_setting("partners", settings.partners, 1, 1 << 10);
  check_setting("window", settings.window, 1, 1 << 10);
  check_setting("degree", settings.degree, 1, 1 << 10);
  check_share("least_share", settings.min_share);
  return settings;
}

}  // namespace

CoOccurrencePrefetcher::CoOccurrencePrefetcher(const CoOccurrenceSettings& settings)
    : settings_(checked(settings)),
      owners_(settings.rows),
      accesses_(settings.rows),
      sizes_(settings.rows),
      partners_(std::size_t{settings.rows} * settings.partners),
      recent_(settings.window) {
  chosen_.reserve(settings.partners);
}

std::size_t CoOccurrencePrefetcher::bytes() const {
  return sizeof(*this) + KeyQueue<RowId>::bytes(settings_.rows) +
         settings_.rows * 2 * sizeof(std::uint32_t) + partners_.size() * sizeof(Partner) +
         recent_.size() * sizeof(RowId) + settings_.partners * sizeof(Partner);
}

void CoOccurrencePrefetcher::begin_sample() {
  if (!settings_.across_samples) num_recent_ = 0;
}

void CoOccurrencePrefetcher::observe(RowId row, AccessResult, std::vector<RowId>& prefetches) {
  const Owner owner = find_or_add(row);
  const std::uint64_t window = std::min<std::uint64_t>(num_recent_, settings_.window);
  for (std::uint64_t apart = 1; apart <= window; ++apart) {
    const RowId other = recent_[(num_recent_ - apart) % recent_.size()];
    if (other == row) continue;
    count(owner, other);
    const Owner other_owner = owners_.find(other);
    if (other_owner != KeyQueue<RowId>::kNoEntry) count(other_owner, row);
  }
  count_access(owner);
  recent_[num_recent_++ % recent_.size()] = row;
  choose(owner, prefetches);
}

CoOccurrencePrefetcher::Owner CoOccurrencePrefetcher::find_or_add(RowId row) {
  const auto [owner, is_new] = owners_.renew_or_push(row);
  if (is_new) accesses_[owner] = sizes_[owner] = 0;
  return owner;
}

/// Counts a partner and moves it to the front; a new one replaces the last one of the lowest count.
void CoOccurrencePrefetcher::count(Owner owner, RowId partner) {
  Partner* const first = partners_of(owner);
  Partner* last = first + sizes_[owner];
  Partner* place = std::find_if(first, last, [&](const Partner& p) { return p.row == partner; });
  if (place == last) {
    if (sizes_[owner] < settings_.partners) {
      ++sizes_[owner];
    } else {
      // Search from the least recent one, which is replaced in a tie.
      for (--place, last = place; last != first;) {
        if ((--last)->times < place->times) place = last;
      }
    }
    *place = {partner, 0};
  }
  ++place->times;
  std::rotate(first, place, place + 1);
}

void CoOccurrencePrefetcher::count_access(Owner owner) {
  if (++accesses_[owner] < kMaxCount) return;
  accesses_[owner] /= 2;
  Partner* const first = partners_of(owner);
  for (Partner* partner = first; partner != first + sizes_[owner]; ++partner) partner->times /= 2;
}

void CoOccurrencePrefetcher::choose(Owner owner, std::vector<RowId>& prefetches) {
  const double min_times = std::max(settings_.min_share * accesses_[owner], 1.0);
  chosen_.clear();
  const Partner* const first = partners_of(owner);
  for (const Partner* partner = first; partner != first + sizes_[owner]; ++partner) {
    if (partner->times >= min_times) chosen_.push_back(*partner);
  }
  std::stable_sort(chosen_.begin(), chosen_.end(),
                   [](const Partner& a, const Partner& b) { return a.times > b.times; });
  if (chosen_.size() > settings_.degree) chosen_.resize(settings_.degree);
  for (const Partner& partner : chosen_) prefetches.push_back(partner.row);
}

}  // namespace tieralloc::baselines
