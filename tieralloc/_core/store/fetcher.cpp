// fetcher.cpp: register, read, admit, and again for rows that changed meanwhile.
#include "store/fetcher.hpp"

#include <cerrno>
#include <cstring>
#include <ranges>
#include <utility>

#include "base/error.hpp"

namespace tieralloc {
namespace {

// A tier's lock is held for so many rows at a time, some microseconds.
constexpr std::size_t kRowsPerLock = 32;

/// Calls `visit(item)` for each, holding the item's tier's lock, released every few rows for
/// others.
template <typename Items, typename TierOf, typename Visit>
void each_locked(Items&& items, TierOf tier_of, Visit visit) {
  std::unique_lock<std::mutex> lock;
  std::size_t held = 0;
  for (auto& item : items) {
    std::mutex& mutex = tier_of(item).mutex();
    if (lock.mutex() != &mutex || ++held == kRowsPerLock) {
      if (lock) lock.unlock();
      lock = std::unique_lock(mutex);
      held = 0;
    }
    visit(item);
  }
}

RowPlace place_of(const Miss* miss) {
  return {miss->tier, miss->row};
}
RowPlace place_of(const RowPlace& place) {
  return place;
}

}  // namespace

void Fetcher::fetch(std::span<Miss> misses, RowArena& held, CallCounters& counters) {
  for (std::size_t at = 0; at < misses.size(); at += kMaxBatch) {
    const auto part = misses.subspan(at, std::min(kMaxBatch, misses.size() - at));
    fetch_batch(part, FastTier::Admit::on_demand, held, counters, [] {});
    if (misses.size() <= kMaxBatch) return;
    // Blocks read are larger than the rows in them: of a very large request only the rows are kept.
    for (Miss& miss : part) {
      if (miss.batch == nullptr) continue;
      miss.bytes = held.push(miss.bytes, miss.tier->stride());
      miss.batch.reset();
    }
  }
}

void Fetcher::pin(std::span<Miss> rows, RowArena& held, const std::function<void()>& make_room) {
  CallCounters unused;  // nobody looks these rows up
  for (std::size_t at = 0; at < rows.size(); at += kMaxBatch) {
    const auto part = rows.subspan(at, std::min(kMaxBatch, rows.size() - at));
    fetch_batch(part, FastTier::Admit::pin, held, unused, make_room);
    for (Miss& row : part) row.batch.reset();
    held.clear();
  }
}

void Fetcher::fetch_batch(std::span<Miss> misses, FastTier::Admit why, RowArena& held,
                          CallCounters& counters, const std::function<void()>& make_room) {
  std::vector<Miss*> open;
  for (Miss& miss : misses) open.push_back(&miss);
  Outcome outcome;
  while (!open.empty()) {
    auto batch = std::make_shared<FetchBatch>(pool_, buffers_, open.size());
    try {
      fetch_once(open, why, batch, held, counters, outcome);
    } catch (...) {
      abandon(open, *batch);
      throw;
    }
    open = std::exchange(outcome.again, {});
    if (why == FastTier::Admit::pin && !open.empty()) make_room();
  }
  if (outcome.failed != nullptr) fail(*outcome.failed, outcome.error);
}

void Fetcher::fetch_once(std::span<Miss*> misses, FastTier::Admit why,
                         std::shared_ptr<FetchBatch> batch, RowArena& held, CallCounters& counters,
                         Outcome& outcome) {
  begin(misses, why, batch, held, counters);
  std::vector<Miss*> own;
  std::vector<Miss*> others;
  for (Miss* miss : misses) {
    if (miss->batch != nullptr) (miss->batch == batch ? own : others).push_back(miss);
  }
  batch->read([&](std::uint32_t first, std::uint32_t last) {
    end(std::span(own).subspan(first, last - first), batch.get(), why, counters, outcome);
  });
  // From the last on: rows land about in order, so that most waits find theirs landed, and nobody
  // is woken for each row.
  for (Miss* miss : std::views::reverse(others)) miss->batch->wait(miss->item);
  end(others, nullptr, why, counters, outcome);
}

/// Ends what is left of a request that failed half-way. Whoever waits for a row of it reads the row
/// for himself.
template <typename Rows>
void Fetcher::abandon(const Rows& rows, FetchBatch& batch) noexcept {
  batch.fail(ENOMEM);
  for (const auto& row : rows) {
    const RowPlace place = place_of(row);
    std::lock_guard lock(place.tier->mutex());
    place.tier->reads().finish(place.row, &batch);
  }
}

/// Finds for each row what there is of it: a copy in the fast tier by now, somebody's read, or a
/// read of our own.
void Fetcher::begin(std::span<Miss*> misses, FastTier::Admit why, std::shared_ptr<FetchBatch> batch,
                    RowArena& held, CallCounters& counters) {
  each_locked(
      misses, [](Miss* miss) -> FastTier& { return *miss->tier; },
      [&](Miss* miss) {
        FastTier& tier = *miss->tier;
        const bool first_try = !miss->counted;
        miss->counted = true;
        miss->batch.reset();
        const Entry entry = tier.find(miss->row);
        if (entry != kAbsent) {
          miss->bytes = held.push(tier.row(slot_of(entry)), tier.stride());
          if (why == FastTier::Admit::pin) {
            take_pin(*miss);
          } else if (is_prefetched(entry) && tier.clear_prefetched(miss->row)) {
            counters.prefetches_useful.add(1);
          }
          return;
        }
        if (first_try) counters.on_demand_fetches.add(1);
        if (InFlightRead* flight = tier.reads().find(miss->row)) {
          FetchItem& item = flight->batch->item(flight->item);
          if (item.is_prefetch && !item.is_shared) counters.prefetches_late.add(1);
          item.is_shared = true;
          miss->batch = flight->batch;
          miss->item = flight->item;
          if (first_try) counters.shared_fetches.add(1);
          return;
        }
        miss->item = batch->add(tier.slow_offsets().of(miss->row), tier.stride(), false);
        miss->batch = batch;
        tier.reads().start(miss->row, {batch, miss->item});
      });
}

/// Takes what was read of rows whose reads have ended, and offers those that are of our `own` batch
/// to the fast tier.
void Fetcher::end(std::span<Miss* const> misses, const FetchBatch* own, FastTier::Admit why,
                  CallCounters& counters, Outcome& outcome) {
  each_locked(
      misses, [](Miss* miss) -> FastTier& { return *miss->tier; },
      [&](Miss* miss) {
        std::int32_t error = 0;
        const State state = end(*miss, own, why, error);
        if (state == State::again) outcome.again.push_back(miss);
        if (state == State::failed) {
          outcome.failed = miss;
          outcome.error = error;
        }
        const std::uint64_t began = miss->batch->started_ns();
        const std::uint64_t ended = miss->batch->ended_ns(miss->item);
        if (began != 0) counters.row_on_demand.record(ended > began ? ended - began : 0);
      });
}

/// Locked.
Fetcher::State Fetcher::end(Miss& miss, const FetchBatch* own, FastTier::Admit why,
                            std::int32_t& error) {
  FetchBatch& batch = *miss.batch;
  const FetchItem& item = batch.item(miss.item);
  const bool current = &batch == own && miss.tier->reads().finish(miss.row, own);
  error = batch.wait(miss.item);
  if (item.stale.load(std::memory_order_acquire)) return State::again;
  // Somebody else's read may have failed for a row beside this one.
  if (error != 0) return &batch == own ? State::failed : State::again;
  miss.bytes = batch.bytes(miss.item);
  const bool admitted = current && miss.tier->admit(miss.row, miss.bytes, why);
  if (why != FastTier::Admit::pin) return State::fetched;
  // Somebody else's read, or no slot free at this moment: the next try finds it resident, or reads
  // it.
  if (!admitted) return State::again;
  take_pin(miss);
  return State::fetched;
}

/// Locked, the row being resident.
void Fetcher::take_pin(Miss& miss) {
  miss.pin = miss.tier->pin(miss.row) ? Miss::Pin::taken : Miss::Pin::given_back;
}

void Fetcher::prefetch(std::span<const RowPlace> rows) {
  auto batch = std::make_shared<FetchBatch>(pool_, buffers_, rows.size());
  try {
    prefetch_once(rows, batch);
  } catch (...) {
    abandon(rows, *batch);
    throw;
  }
}

void Fetcher::prefetch_once(std::span<const RowPlace> rows, std::shared_ptr<FetchBatch> batch) {
  std::vector<Miss> misses;
  each_locked(
      rows, [](const RowPlace& place) -> FastTier& { return *place.tier; },
      [&](const RowPlace& place) {
        FastTier& tier = *place.tier;
        if (tier.find(place.row) != kAbsent || tier.reads().find(place.row)) return;
        const std::uint32_t item =
            batch->add(tier.slow_offsets().of(place.row), tier.stride(), true);
        tier.reads().start(place.row, {batch, item});
        tier.count_prefetch();
        misses.push_back({.tier = &tier, .row = place.row, .batch = batch, .item = item});
      });
  batch->read([&](std::uint32_t first, std::uint32_t last) {
    each_locked(
        std::span(misses).subspan(first, last - first),
        [](Miss& miss) -> FastTier& { return *miss.tier; },
        [&](Miss& miss) {
          // Somebody who waited for it has had its use already: it counts as late, not as useful.
          const bool joined = batch->item(miss.item).is_shared;
          std::int32_t error = 0;
          end(miss, batch.get(), joined ? FastTier::Admit::on_demand : FastTier::Admit::prefetch,
              error);
        });
  });
}

void Fetcher::fail(const Miss& miss, std::int32_t error) const {
  const std::string where = std::to_string(miss.tier->stride()) + " bytes at offset " +
                            std::to_string(miss.tier->slow_offsets().of(miss.row)) +
                            " of the slow tier";
  if (error == -ENODATA) {
    throw SystemFailure(EIO, "cannot read " + where + ": it ends before that; it was cut short",
                        pool_.path());
  }
  throw SystemFailure(-error, "cannot read " + where + ": " + std::strerror(-error), pool_.path());
}

}  // namespace tieralloc
