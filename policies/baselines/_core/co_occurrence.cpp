#include "co_occurrence.hpp"

#include <algorithm>

namespace tieralloc::baselines {
namespace {

const CoOccurrenceSettings& checked(const CoOccurrenceSettings& settings) {
  check_setting("rows", settings.rows, 1, 1u << 31);
  check_setting("partners", settings.partners, 1, 1 << 10);
  check_setting("window", settings.window, 1, 1 << 10);
  check_setting("degree", settings.degree, 1, 1 << 10);
  check_share("least_share", settings.least_share);
  return settings;
}

}  // namespace

CoOccurrence::CoOccurrence(const CoOccurrenceSettings& settings)
    : settings_(checked(settings)),
      owners_(settings.rows),
      accesses_(settings.rows),
      sizes_(settings.rows),
      partners_(std::size_t{settings.rows} * settings.partners),
      recent_(settings.window) {
  chosen_.reserve(settings.partners);
}

std::size_t CoOccurrence::bytes() const {
  return sizeof(*this) + KeyQueue<RowId>::bytes(settings_.rows) +
         settings_.rows * 2 * sizeof(std::uint32_t) + partners_.size() * sizeof(Partner) +
         recent_.size() * sizeof(RowId) + settings_.partners * sizeof(Partner);
}

void CoOccurrence::begin_sample() {
  if (!settings_.across_samples) seen_ = 0;
}

void CoOccurrence::observe(RowId row, Found, std::vector<RowId>& prefetches) {
  const Owner owner = owner_of(row);
  const std::uint64_t window = std::min<std::uint64_t>(seen_, settings_.window);
  for (std::uint64_t apart = 1; apart <= window; ++apart) {
    const RowId other = recent_[(seen_ - apart) % recent_.size()];
    if (other == row) continue;
    count(owner, other);
    const Owner theirs = owners_.find(other);
    if (theirs != KeyQueue<RowId>::kNoEntry) count(theirs, row);
  }
  count_access(owner);
  recent_[seen_++ % recent_.size()] = row;
  choose(owner, prefetches);
}

CoOccurrence::Owner CoOccurrence::owner_of(RowId row) {
  Owner owner = owners_.find(row);
  if (owner != KeyQueue<RowId>::kNoEntry) {
    owners_.renew(owner);
    return owner;
  }
  if (owners_.full()) owners_.pop();
  owner = owners_.push(row);
  accesses_[owner] = sizes_[owner] = 0;
  return owner;
}

void CoOccurrence::count(Owner owner, RowId partner) {
  Partner* const first = partners_of(owner);
  Partner* last = first + sizes_[owner];
  Partner* place = std::find_if(first, last, [&](const Partner& p) { return p.row == partner; });
  if (place == last) {
    if (sizes_[owner] < settings_.partners) {
      ++sizes_[owner];
    } else {
      // From the least recent on: it wins ties.
      for (--place, last = place; last != first;) {
        if ((--last)->times < place->times) place = last;
      }
    }
    *place = {partner, 0};
  }
  ++place->times;
  std::rotate(first, place, place + 1);
}

void CoOccurrence::count_access(Owner owner) {
  if (++accesses_[owner] < kMaxCount) return;
  accesses_[owner] /= 2;
  Partner* const first = partners_of(owner);
  for (Partner* partner = first; partner != first + sizes_[owner]; ++partner) partner->times /= 2;
}

void CoOccurrence::choose(Owner owner, std::vector<RowId>& prefetches) {
  const double min_times = std::max(settings_.least_share * accesses_[owner], 1.0);
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
