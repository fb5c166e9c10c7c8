// fetcher.cpp: start, read, admit, and repeat for rows that were updated meanwhile.
#include "store/fetcher.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ranges>
#include <thread>
#include <utility>

#include "base/error.hpp"
#include "store/table_counters.hpp"

namespace tieralloc {
namespace {

// Pages that a warm-up reads and does not need: about what the device transfers in the time of one
// more read.
constexpr std::uint64_t kWarmUpGapBytes = 16 << 10;

RowPlace place_of(const Miss* miss) {
  return {miss->tier, miss->row};
}
RowPlace place_of(const RowPlace& place) {
  return place;
}

/// Calls `visit(item)` for each item under the lock of its tier, which is released every few rows.
template <typename Items, typename TierOf, typename Visit>
void each_locked(Items&& items, TierOf tier_of, Visit visit) {
  std::unique_lock<std::mutex> lock;
  std::size_t visited = 0;
  for (auto& item : items) {
    std::mutex& mutex = tier_of(item).mutex();
    if (lock.mutex() != &mutex || ++visited == kRowsPerLock) {
      if (lock) lock.unlock();
      lock = std::unique_lock(mutex);
      visited = 0;
    }
    visit(item);
  }
}

}  // namespace

void Fetcher::fetch(std::span<Miss> misses, RowArena& copies, CallCounters& counters) {
  for (std::size_t at = 0; at < misses.size(); at += kMaxBatchRows) {
    const auto batch = misses.subspan(at, std::min(kMaxBatchRows, misses.size() - at));
    fetch_batch(batch, FastTier::Admit::on_demand, copies, counters);
    if (misses.size() <= kMaxBatchRows) return;
    // Blocks are larger than rows: of a very large request only the rows are kept.
    for (Miss& miss : batch) {
      if (miss.batch == nullptr) continue;
      miss.bytes = copies.push(miss.bytes, miss.tier->row_bytes());
      miss.batch.reset();
    }
  }
}

void Fetcher::pin(std::span<Miss> rows, RowArena& copies) {
  CallCounters unused;  // a pin is no lookup
  for (std::size_t at = 0; at < rows.size(); at += kMaxBatchRows) {
    const auto batch = rows.subspan(at, std::min(kMaxBatchRows, rows.size() - at));
    fetch_batch(batch, FastTier::Admit::pin, copies, unused);
    for (Miss& row : batch) row.batch.reset();
    copies.clear();
  }
}

void Fetcher::fetch_batch(std::span<Miss> misses, FastTier::Admit reason, RowArena& copies,
                          CallCounters& counters) {
  std::vector<Miss*> open;
  for (Miss& miss : misses) open.push_back(&miss);
  Outcome outcome;
  while (!open.empty()) {
    auto batch = std::make_shared<FetchBatch>(pool_, buffers_, open.size());
    try {
      fetch_once(open, reason, batch, copies, counters, outcome);
    } catch (...) {
      abandon(open, *batch);
      throw;
    }
    open = std::exchange(outcome.retries, {});
    // A pin without a free slot: readers hold the spare slots, for some microseconds.
    if (reason == FastTier::Admit::pin && !open.empty()) std::this_thread::yield();
  }
  if (outcome.failed != nullptr) fail(*outcome.failed, outcome.error);
}

void Fetcher::fetch_once(std::span<Miss*> misses, FastTier::Admit reason,
                         std::shared_ptr<FetchBatch> batch, RowArena& copies,
                         CallCounters& counters, Outcome& outcome) {
  begin(misses, reason, batch, copies, counters, outcome);
  std::vector<Miss*> own;
  std::vector<Miss*> joined;
  for (Miss* miss : misses) {
    if (miss->batch != nullptr) (miss->batch == batch ? own : joined).push_back(miss);
  }
  batch->read([&](std::uint32_t first, std::uint32_t last) {
    finish(std::span(own).subspan(first, last - first), batch.get(), reason, counters, outcome);
  });
  // The last row first: rows complete in about their order, so most other waits return at once.
  for (Miss* miss : std::views::reverse(joined)) miss->batch->wait(miss->item);
  finish(joined, nullptr, reason, counters, outcome);
}

/// Fails the incomplete reads of a request, so that calls that joined them read for themselves.
template <typename Rows>
void Fetcher::abandon(const Rows& rows, FetchBatch& batch) noexcept {
  batch.fail(ENOMEM);
  for (const auto& row : rows) {
    const RowPlace place = place_of(row);
    std::lock_guard lock(place.tier->mutex());
    place.tier->reads().finish(place.row, &batch);
  }
}

/// Locked. The row's value if it is later than that of its page, else null.
const std::byte* Fetcher::copy_updated(const FastTier& tier, TierRow row, RowArena& copies) const {
  if (!pool_.has_updated_rows()) return nullptr;
  std::byte* room = copies.next_room(tier.stride());
  if (!pool_.find_updated(tier.slow_offsets().of(row), {room, tier.row_bytes()})) return nullptr;
  copies.keep(tier.stride());
  return room;
}

/// For each row: copies it if it is in memory by now, joins its read, or adds it to `batch`.
void Fetcher::begin(std::span<Miss*> misses, FastTier::Admit reason,
                    std::shared_ptr<FetchBatch> batch, RowArena& copies, CallCounters& counters,
                    Outcome& outcome) {
  each_locked(
      misses, [](Miss* miss) -> FastTier& { return *miss->tier; },
      [&](Miss* miss) {
        FastTier& tier = *miss->tier;
        const bool is_first_try = !miss->is_counted;
        miss->is_counted = true;
        miss->batch.reset();
        const Entry entry = tier.find_or_adopt(miss->row);
        if (entry != kAbsent) {
          miss->bytes = copies.push(tier.row(slot_of(entry)), tier.stride());
          if (reason == FastTier::Admit::pin) {
            take_pin(*miss);
          } else if (is_prefetched(entry) && tier.clear_prefetched(miss->row)) {
            counters.prefetches_useful.add(1);
          }
          return;
        }
        if (reason != FastTier::Admit::pin) {
          if (const std::byte* former = tier.former_copy(miss->row)) {
            miss->bytes = copies.push(former, tier.stride());
            return;
          }
        }
        if (is_first_try) {
          counters.on_demand_fetches.add(1);
          if (miss->counters != nullptr) miss->counters->add_fetches(1);
        }
        if (const std::byte* updated = copy_updated(tier, miss->row, copies)) {
          miss->bytes = updated;
          tier.reads().invalidate(miss->row);  // a read that began before the update
          const bool is_admitted = tier.admit(miss->row, updated, reason);
          if (reason != FastTier::Admit::pin) return;
          if (is_admitted) {
            take_pin(*miss);
          } else {
            outcome.retries.push_back(miss);
          }
          return;
        }
        if (InFlightRead* read = tier.reads().find(miss->row)) {
          FetchItem& item = read->batch->item(read->item);
          if (item.is_prefetch && !item.is_shared) counters.prefetches_late.add(1);
          item.is_shared = true;
          miss->batch = read->batch;
          miss->item = read->item;
          if (is_first_try) counters.shared_fetches.add(1);
          return;
        }
        miss->item = batch->add(tier.slow_offsets().of(miss->row), false);
        miss->batch = batch;
        tier.reads().start(miss->row, {batch, miss->item});
      });
}

/// Takes the bytes of complete rows, and offers those of the `own` batch to the fast tier.
void Fetcher::finish(std::span<Miss* const> misses, const FetchBatch* own, FastTier::Admit reason,
                     CallCounters& counters, Outcome& outcome) {
  each_locked(
      misses, [](Miss* miss) -> FastTier& { return *miss->tier; },
      [&](Miss* miss) {
        std::int32_t error = 0;
        const State state = finish(*miss, own, reason, error);
        if (state == State::retry) outcome.retries.push_back(miss);
        if (state == State::failed) {
          outcome.failed = miss;
          outcome.error = error;
        }
        if (own != nullptr && own->is_leader(miss->item)) {
          counters.on_demand_device_reads.add(1);
          if (miss->counters != nullptr) miss->counters->on_demand_device_reads.add(1);
        }
        const std::uint64_t began = miss->batch->started_ns();
        const std::uint64_t ended = miss->batch->ended_ns(miss->item);
        if (began != 0) counters.row_on_demand.record(ended > began ? ended - began : 0);
      });
}

/// Locked.
Fetcher::State Fetcher::finish(Miss& miss, const FetchBatch* own, FastTier::Admit reason,
                               std::int32_t& error) {
  FetchBatch& batch = *miss.batch;
  const FetchItem& item = batch.item(miss.item);
  const bool is_own = &batch == own;
  const bool is_current = is_own && miss.tier->reads().finish(miss.row, own);
  error = batch.wait(miss.item);
  if (item.stale.load(std::memory_order_acquire)) return State::retry;
  // The read of another call may have failed because of a neighbouring row.
  if (error != 0) return is_own ? State::failed : State::retry;
  miss.bytes = batch.bytes(miss.item);
  const bool is_admitted = is_current && miss.tier->admit(miss.row, miss.bytes, reason);
  if (reason != FastTier::Admit::pin) return State::fetched;
  // The read of another call, or no free slot: the next try finds the row resident, or reads it.
  if (!is_admitted) return State::retry;
  take_pin(miss);
  return State::fetched;
}

/// Locked. Requires a resident row.
void Fetcher::take_pin(Miss& miss) {
  miss.pin = miss.tier->pin(miss.row) ? Miss::Pin::taken : Miss::Pin::released;
}

void Fetcher::prefetch(std::span<const RowPlace> rows, FastTier::Admit reason) {
  const std::uint64_t max_gap = reason == FastTier::Admit::warm_up ? kWarmUpGapBytes : 0;
  auto batch = std::make_shared<FetchBatch>(pool_, buffers_, rows.size(), max_gap);
  try {
    prefetch_once(rows, reason, batch);
  } catch (...) {
    abandon(rows, *batch);
    throw;
  }
}

void Fetcher::prefetch_once(std::span<const RowPlace> rows, FastTier::Admit reason,
                            std::shared_ptr<FetchBatch> batch) {
  const bool is_prefetch = reason == FastTier::Admit::prefetch;
  std::vector<Miss> misses;
  RowArena copies;
  each_locked(
      rows, [](const RowPlace& place) -> FastTier& { return *place.tier; },
      [&](const RowPlace& place) {
        FastTier& tier = *place.tier;
        if (tier.find_or_adopt(place.row) != kAbsent) return;
        if (tier.reads().find(place.row) != nullptr) return;
        if (const std::byte* updated = copy_updated(tier, place.row, copies)) {
          if (is_prefetch) tier.count_prefetch();
          tier.admit(place.row, updated, reason);
          return;
        }
        const std::uint32_t item = batch->add(tier.slow_offsets().of(place.row), is_prefetch);
        tier.reads().start(place.row, {batch, item});
        if (is_prefetch) tier.count_prefetch();
        misses.push_back({.tier = &tier, .row = place.row, .batch = batch, .item = item});
      });
  batch->read([&](std::uint32_t first, std::uint32_t last) {
    each_locked(
        std::span(misses).subspan(first, last - first),
        [](Miss& miss) -> FastTier& { return *miss.tier; },
        [&](Miss& miss) {
          // A call that joined the read has used the row: the prefetch counts as late.
          const bool is_shared = batch->item(miss.item).is_shared;
          if (is_prefetch && batch->is_leader(miss.item)) miss.tier->count_prefetch_read();
          std::int32_t error = 0;
          finish(miss, batch.get(), is_shared ? FastTier::Admit::on_demand : reason, error);
        });
  });
}

void Fetcher::fail(const Miss& miss, std::int32_t error) const {
  const RowAddress row = miss.tier->slow_offsets().of(miss.row);
  const FilePlace place = pool_.place_of(row.offset());
  const std::string what = "cannot read " + pool_.describe(row.page) + " at offset " +
                           std::to_string(place.offset) + " of the slow tier: ";
  switch (error) {
    case -ENODATA:
      throw SystemFailure(EIO, what + "the file was cut short", place.path);
    case -ESTALE:
      throw SystemFailure(ESTALE,
                          what +
                              "the file was deleted, replaced or written since the store opened "
                              "it; open the store again",
                          place.path);
    case -EBADMSG:
      throw SystemFailure(EIO, what + "the page is damaged (wrong checksum)", place.path);
    default:
      throw SystemFailure(-error, what + std::strerror(-error), place.path);
  }
}

}  // namespace tieralloc
