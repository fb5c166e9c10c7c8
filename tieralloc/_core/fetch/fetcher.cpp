// fetcher.cpp: register, read, admit, and again for rows that changed meanwhile.
#include "fetcher.hpp"

#include <cerrno>
#include <cstring>

#include "../error.hpp"

namespace tieralloc {
namespace {

// A tier's lock is held for so many rows at a time, some microseconds.
constexpr std::size_t kRowsPerLock = 32;

/// Calls `visit(item)` for each, holding the item's tier's lock, released every few rows for
/// others.
template <typename Items, typename TierOf, typename Visit>
void each_locked(Items& items, TierOf tier_of, Visit visit) {
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

}  // namespace

void Fetcher::fetch(std::span<Miss> misses, RowArena& held, CallMeters& meters) {
  for (std::size_t at = 0; at < misses.size(); at += kMaxBatch) {
    const auto part = misses.subspan(at, std::min(kMaxBatch, misses.size() - at));
    fetch_batch(part, FastTier::Admit::on_demand, held, meters, [] {});
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
  CallMeters unused;  // nobody looks these rows up
  for (std::size_t at = 0; at < rows.size(); at += kMaxBatch) {
    const auto part = rows.subspan(at, std::min(kMaxBatch, rows.size() - at));
    fetch_batch(part, FastTier::Admit::pin, held, unused, make_room);
    for (Miss& row : part) row.batch.reset();
    held.clear();
  }
}

void Fetcher::fetch_batch(std::span<Miss> misses, FastTier::Admit why, RowArena& held,
                          CallMeters& meters, const std::function<void()>& make_room) {
  std::vector<Miss*> open;
  for (Miss& miss : misses) open.push_back(&miss);
  Miss* failed = nullptr;
  std::int32_t error = 0;
  while (!open.empty()) {
    auto batch = std::make_shared<FetchBatch>(pool_, buffers_, open.size());
    begin(open, why, batch, held, meters);
    batch->read();
    std::erase_if(open, [](const Miss* miss) { return miss->batch == nullptr; });
    for (Miss* miss : open) {
      if (miss->batch != batch) miss->batch->wait(miss->item);
    }
    std::vector<Miss*> again;
    each_locked(
        open, [](Miss* miss) -> FastTier& { return *miss->tier; },
        [&](Miss* miss) {
          std::int32_t result = 0;
          const State state = end(*miss, batch.get(), why, result);
          if (state == State::again) again.push_back(miss);
          if (state == State::failed) {
            failed = miss;
            error = result;
          }
        });
    for (const Miss* miss : open) {
      const std::uint64_t began = miss->batch ? miss->batch->started_ns() : 0;
      if (began == 0) continue;
      const std::uint64_t ended = miss->batch->ended_ns(miss->item);
      meters.row_on_demand.record(ended > began ? ended - began : 0);
    }
    open = std::move(again);
    if (why == FastTier::Admit::pin && !open.empty()) make_room();
  }
  if (failed != nullptr) fail(*failed, error);
}

/// Finds for each row what there is of it: a copy in the fast tier by now, somebody's read, or a
/// read of our own.
void Fetcher::begin(std::span<Miss*> misses, FastTier::Admit why, std::shared_ptr<FetchBatch> batch,
                    RowArena& held, CallMeters& meters) {
  each_locked(
      misses, [](Miss* miss) -> FastTier& { return *miss->tier; },
      [&](Miss* miss) {
        FastTier& tier = *miss->tier;
        const bool first_try = !miss->counted;
        miss->counted = true;
        miss->batch.reset();
        const Entry entry = tier.index().find(miss->row);
        if (entry != kAbsent) {
          miss->bytes = held.push(tier.row(slot_of(entry)), tier.stride());
          if (why == FastTier::Admit::pin) {
            take_pin(*miss);
          } else if (is_prefetched(entry) && tier.clear_prefetched(miss->row)) {
            meters.prefetches_useful.add(1);
          }
          return;
        }
        if (first_try) meters.on_demand_fetches.add(1);
        if (FastTier::Flight* flight = tier.find_flight(miss->row)) {
          FetchItem& item = flight->batch->item(flight->item);
          if (item.prefetch && !item.joined) meters.prefetches_late.add(1);
          item.joined = true;
          miss->batch = flight->batch;
          miss->item = flight->item;
          if (first_try) meters.shared_fetches.add(1);
          return;
        }
        miss->item = batch->add(&tier, miss->row, tier.home_of(miss->row), tier.stride(), false);
        miss->batch = batch;
        tier.start_flight(miss->row, {batch, miss->item});
      });
}

/// Locked. Takes what was read of one row, and offers it to the fast tier if it was ours to read.
Fetcher::State Fetcher::end(Miss& miss, const FetchBatch* own, FastTier::Admit why,
                            std::int32_t& error) {
  FetchBatch& batch = *miss.batch;
  const FetchItem& item = batch.item(miss.item);
  const bool current = &batch == own && miss.tier->end_flight(miss.row, own);
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
  std::vector<Miss> misses;
  for (const RowPlace& place : rows) {
    misses.push_back({.tier = place.tier, .row = place.row, .batch = nullptr});
  }
  auto batch = std::make_shared<FetchBatch>(pool_, buffers_, misses.size());
  const auto tier_of = [](Miss& miss) -> FastTier& { return *miss.tier; };
  each_locked(misses, tier_of, [&](Miss& miss) {
    if (miss.tier->index().find(miss.row) != kAbsent || miss.tier->find_flight(miss.row)) return;
    miss.item =
        batch->add(miss.tier, miss.row, miss.tier->home_of(miss.row), miss.tier->stride(), true);
    miss.batch = batch;
    miss.tier->start_flight(miss.row, {batch, miss.item});
    miss.tier->count_prefetch();
  });
  batch->read();
  std::erase_if(misses, [](const Miss& miss) { return miss.batch == nullptr; });
  each_locked(misses, tier_of, [&](Miss& miss) {
    // Somebody who waited for it has had its use already: it counts as late, not as useful.
    const bool joined = batch->item(miss.item).joined;
    std::int32_t error = 0;
    end(miss, batch.get(), joined ? FastTier::Admit::on_demand : FastTier::Admit::prefetch, error);
  });
}

void Fetcher::fail(const Miss& miss, std::int32_t error) const {
  const std::string where = std::to_string(miss.tier->stride()) + " bytes at offset " +
                            std::to_string(miss.tier->home_of(miss.row)) + " of the slow tier";
  if (error == -ENODATA) {
    throw SystemFailure(EIO, "cannot read " + where + ": it ends before that; it was cut short",
                        pool_.path());
  }
  throw SystemFailure(-error, "cannot read " + where + ": " + std::strerror(-error), pool_.path());
}

}  // namespace tieralloc
