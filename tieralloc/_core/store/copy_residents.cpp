// copy_residents.cpp: gives a store that no call uses yet the resident rows of another one, which
// serves meanwhile.
//
//   repeat: list the rows resident there, with their standing; drop rows that are not among them
//           read the missing ones in file order, some at a time, with pauses
//   until few were missing, because the rows there change during the reads
//   take over what the policies there have learnt
//   insert all rows into the policies again, the older ones first
#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <ranges>
#include <thread>

#include "base/thread_class.hpp"
#include "store/held_policy.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

constexpr Slot kListedPerLock = 128;  // index entries of random rows: some microseconds
// Rows read at once: lookups wait behind them. More of them if that makes too many steps.
constexpr std::size_t kMinCopied = 8;
constexpr std::size_t kMaxCopied = 64;
constexpr std::size_t kCopySteps = std::size_t{1} << 15;
constexpr int kPauseFactor = 8;
constexpr std::chrono::nanoseconds kMaxPause = std::chrono::milliseconds(4);
constexpr int kMaxRounds = 4;
constexpr std::size_t kFewMissing = 100;  // a 100th of the rows

bool by_row(const ResidentRow& a, const ResidentRow& b) {
  return a.row < b.row;
}

/// Pauses for a multiple of the time of the work: most of the device and of a processor stays free.
class Pacer {
 public:
  void pause() {
    const auto worked = std::chrono::steady_clock::now() - began_;
    // A thread that had to wait for a processor did not work.
    std::this_thread::sleep_for(
        std::min<std::chrono::nanoseconds>(kPauseFactor * worked, kMaxPause));
    began_ = std::chrono::steady_clock::now();
  }

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace

std::vector<ResidentRow> Store::list_residents() {
  check_fork();
  std::optional<ReadGuard> guard;
  enter(guard);
  std::vector<ResidentRow> rows;
  std::vector<TierRow> listed;
  std::vector<ResidentRow> parts;
  std::vector<StoreRow> numbers;
  for (auto& tier : tiers_) {
    listed.clear();
    parts.clear();
    numbers.clear();
    for (Slot slot = 0; slot < tier->slots(); slot += kListedPerLock) {
      std::lock_guard lock(tier->mutex());
      tier->list_resident(slot, slot + kListedPerLock, listed);
      for (std::size_t i = parts.size(); i < listed.size(); ++i) {
        parts.push_back(
            {.standing = tier->standing(listed[i]), .is_pinned = tier->is_pinned(listed[i])});
      }
    }
    append_store_rows(*tier, listed, numbers);
    for (std::size_t i = 0; i < parts.size(); ++i) parts[i].row = numbers[i];
    rows.insert(rows.end(), parts.begin(), parts.end());
  }
  std::sort(rows.begin(), rows.end(), by_row);
  // An update may move a row to a slot that is listed later.
  const auto repeated = std::ranges::unique(rows, {}, &ResidentRow::row);
  rows.erase(repeated.begin(), repeated.end());
  return rows;
}

std::uint64_t Store::copy_residents(Store& from) {
  yield_to_serving();
  std::vector<StoreRow> in_order;  // of admission here
  std::vector<ResidentRow> theirs;
  for (int round = 0; round < kMaxRounds; ++round) {
    theirs = from.list_residents();
    const std::vector<ResidentRow> own = list_residents();
    std::vector<ResidentRow> missing, stale;
    std::ranges::set_difference(theirs, own, std::back_inserter(missing), by_row);
    std::ranges::set_difference(own, theirs, std::back_inserter(stale), by_row);
    drop_rows(stale);
    copy_rows(missing);
    for (const ResidentRow& row : missing) in_order.push_back(row.row);
    if (missing.size() <= theirs.size() / kFewMissing) break;
  }
  HeldPolicy(*this).copy(HeldPolicy(from));
  rank_rows(in_order, theirs);
  std::uint64_t resident = 0;
  std::optional<ReadGuard> guard;
  enter(guard);
  for (auto& tier : tiers_) {
    std::lock_guard lock(tier->mutex());
    resident += tier->resident_rows();
  }
  return resident;
}

void Store::drop_rows(std::span<const ResidentRow> rows) {
  std::optional<ReadGuard> guard;
  enter(guard);
  for (const ResidentRow& stale : rows) {
    const RowPlace place = known_place(stale.row);
    if (place.tier == nullptr) continue;
    std::lock_guard lock(place.tier->mutex());
    place.tier->discard(place.row);
  }
}

/// Reads rows, which ascend, in file order. Throws SystemFailure for a row that cannot be read.
void Store::copy_rows(std::span<const ResidentRow> rows) {
  Pacer pacer;
  std::vector<StoreRow> numbers;
  const std::size_t step = std::clamp(rows.size() / kCopySteps, kMinCopied, kMaxCopied);
  for (std::size_t at = 0; at < rows.size(); at += step) {
    numbers.clear();
    for (const ResidentRow& row : rows.subspan(at, std::min(step, rows.size() - at))) {
      numbers.push_back(row.row);
    }
    {
      std::optional<ReadGuard> guard;
      enter(guard);
      const std::vector<RowPlace> places = absent_rows(numbers);
      fetcher_.prefetch(places, FastTier::Admit::warm_up);
      check_copied(places);
    }
    pacer.pause();
  }
}

/// Reads rows again whose read failed.
void Store::check_copied(std::span<const RowPlace> places) {
  for (const RowPlace& place : places) {
    if (place.tier->find(place.row) != kAbsent) continue;
    if (std::lock_guard lock(place.tier->mutex()); place.tier->is_full()) continue;
    std::vector<Miss> misses{{.tier = place.tier, .row = place.row, .batch = nullptr}};
    RowArena copies;
    CallCounters unused;
    fetcher_.fetch(misses, copies, unused);
  }
}

/// Gives rows the standing that they have among `residents`, which are sorted. No call may use the
/// store yet: each tier is locked for the time of all its rows.
void Store::rank_rows(std::span<const StoreRow> in_order, std::span<const ResidentRow> residents) {
  std::optional<ReadGuard> guard;
  enter(guard);
  for (auto& tier : tiers_) {
    std::vector<RankedRow> ranked;
    std::vector<bool> is_ranked(residents.size());
    for (const StoreRow row : std::views::reverse(in_order)) {
      const auto at = std::ranges::lower_bound(residents, row, {}, &ResidentRow::row);
      const RowPlace place = known_place(row);
      if (place.tier != tier.get() || at == residents.end() || at->row != row) continue;
      const auto index = static_cast<std::size_t>(at - residents.begin());
      if (is_ranked[index]) continue;  // dropped and copied again
      is_ranked[index] = true;
      ranked.push_back({place.row, at->standing});
    }
    std::ranges::reverse(ranked);
    std::lock_guard lock(tier->mutex());
    tier->rank(ranked);
  }
}

void Store::copy_pins(Store& from) {
  const auto pins_of = [](Store& store) {
    std::vector<ResidentRow> rows = store.list_residents();
    std::erase_if(rows, [](const ResidentRow& row) { return !row.is_pinned; });
    return rows;
  };
  const std::vector<ResidentRow> theirs = pins_of(from);
  const std::vector<ResidentRow> own = pins_of(*this);
  std::vector<ResidentRow> missing, stale;
  std::ranges::set_difference(theirs, own, std::back_inserter(missing), by_row);
  std::ranges::set_difference(own, theirs, std::back_inserter(stale), by_row);
  for (const Table* table : tables()) {
    const auto rows_of = [&](const std::vector<ResidentRow>& all) {
      std::vector<std::int64_t> rows;
      for (const ResidentRow& row : all) {
        const RowId number = row.row.value - table->first_store_row.value;
        if (row.row < table->first_store_row || number >= table->layout.rows) continue;
        rows.push_back(static_cast<std::int64_t>(number));
      }
      return rows;
    };
    const std::vector<std::int64_t> to_unpin = rows_of(stale);
    const std::vector<std::int64_t> to_pin = rows_of(missing);
    unpin(*table, {to_unpin.data(), to_unpin.size(), true});
    pin(*table, {to_pin.data(), to_pin.size(), true});
  }
}

}  // namespace tieralloc
