// simulator.cpp: replays accesses one by one or call by call.
#include "sim/simulator.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

namespace tieralloc {

void check_rows(std::span<const RowId> accesses, std::uint64_t rows) {
  const auto invalid =
      std::find_if(accesses.begin(), accesses.end(), [rows](RowId row) { return row >= rows; });
  if (invalid == accesses.end()) return;
  throw std::out_of_range("access " + std::to_string(invalid - accesses.begin()) +
                          ": row out of range; expected below " + std::to_string(rows) + ", got " +
                          std::to_string(*invalid));
}

void check_lengths(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths) {
  const auto total =
      std::accumulate(sample_lengths.begin(), sample_lengths.end(), std::uint64_t{0});
  if (total == rows.size()) return;
  throw std::invalid_argument("sample_lengths: wrong sum; expected " + std::to_string(rows.size()) +
                              ", got " + std::to_string(total));
}

namespace {

constexpr std::size_t kFewRows = 32;

/// Removes all but the first of equal rows. Most batches are small: then a set takes longer.
void drop_repeated(std::vector<RowId>& rows) {
  if (rows.size() <= kFewRows) {
    auto end = rows.begin();
    for (const RowId row : rows) {
      if (std::find(rows.begin(), end, row) == end) *end++ = row;
    }
    rows.erase(end, rows.end());
    return;
  }
  std::unordered_set<RowId> seen;
  std::erase_if(rows, [&](RowId row) { return !seen.insert(row).second; });
}

}  // namespace

Simulator::Simulator(std::unique_ptr<EvictionPolicy> policy, const EvictionConfig& config,
                     std::uint64_t rows, std::uint64_t count_from, std::uint64_t prefetch_lag,
                     Calls calls, RowPages pages, std::size_t max_index_bytes)
    : policy_(std::move(policy)),
      planner_(policy_->planner()),
      index_(make_row_index(rows, config.slots, max_index_bytes)),
      rows_(rows),
      capacity_(config.capacity),
      row_in_(config.slots, kNoRow),
      count_from_(count_from),
      prefetch_lag_(prefetch_lag),
      calls_(std::move(calls)),
      device_reads_(std::move(pages), rows) {
  for (Slot slot = 0; slot < config.slots; ++slot) free_.push_back(slot);
}

std::size_t Simulator::bytes(const EvictionConfig& config, std::uint64_t rows) {
  return sizeof(Simulator) + row_index_bytes(rows, config.slots) +
         config.slots * (sizeof(RowId) + sizeof(Slot));
}

void Simulator::run(std::span<const RowId> accesses,
                    std::span<const std::uint32_t> sample_lengths) {
  check_lengths(accesses, sample_lengths);
  check_rows(accesses, rows_);
  std::size_t at = 0;
  if (calls_.samples == 0) {
    for (const std::uint32_t length : sample_lengths) {
      if (planner_ != nullptr) planner_->begin_sample();
      for (const std::size_t end = at + length; at < end; ++at) {
        expect(accesses.subspan(at));
        access(accesses[at]);
      }
    }
    return;
  }
  while (!sample_lengths.empty()) {
    const auto lengths = sample_lengths.first(std::min(calls_.samples, sample_lengths.size()));
    const auto rows = std::accumulate(lengths.begin(), lengths.end(), std::size_t{0});
    run_call(accesses.subspan(at, rows), lengths);
    at += rows;
    sample_lengths = sample_lengths.subspan(lengths.size());
  }
}

/// Simulates a call of these samples.
void Simulator::run_call(std::span<const RowId> rows,
                         std::span<const std::uint32_t> sample_lengths) {
  const auto table_of = [this](RowId row) {
    return std::upper_bound(calls_.table_starts.begin(), calls_.table_starts.end(), row);
  };
  call_rows_.assign(rows.begin(), rows.end());
  std::stable_sort(call_rows_.begin(), call_rows_.end(),
                   [&](RowId a, RowId b) { return table_of(a) < table_of(b); });
  if (!arrivals_.empty()) complete_prefetches();
  begin_call(rows.size());
  missed_.clear();
  missed_set_.clear();
  for (const RowId row : call_rows_) {
    if (!look_up(row)) missed_.push_back(row);
    ++now_;
  }
  for (const RowId row : missed_) admit(row, false);
  if (planner_ == nullptr) return;
  step([&] {
    std::size_t at = 0;
    for (const std::uint32_t length : sample_lengths) {
      planner_->observe_sample(rows, at, length);
      at += length;
    }
  });
}

void Simulator::run(std::span<const RowId> accesses) {
  if (calls_.samples > 0) {
    throw std::invalid_argument("sample_lengths: missing; expected lengths for calls of " +
                                std::to_string(calls_.samples) + " samples, got none");
  }
  check_rows(accesses, rows_);
  for (std::size_t at = 0; at < accesses.size(); ++at) {
    expect(accesses.subspan(at));
    access(accesses[at]);
  }
}

/// Expects a later access.
void Simulator::expect(std::span<const RowId> accesses) {
  if (planner_ == nullptr || accesses.size() <= Planner::kExpected) return;
  planner_->expect(accesses[Planner::kExpected]);
  index_->prefetch(accesses.subspan(Planner::kExpected, 1));
}

bool Simulator::access(RowId row) {
  if (!arrivals_.empty()) complete_prefetches();
  begin_call(1);
  const bool hit = look_up(row);
  if (!hit) admit(row, false);
  ++now_;
  if (planner_ != nullptr) step([&] { planner_->observe({&row, 1}); });
  return hit;
}

/// Counts a call if its last access is counted.
void Simulator::begin_call(std::size_t accesses) {
  device_reads_.begin_request();
  const std::uint64_t last = now_ + (accesses == 0 ? 0 : accesses - 1);
  if (last >= count_from_) ++counts_.calls;
}

/// False if the row must be fetched on demand.
bool Simulator::look_up(RowId row) {
  Counts& counts = active_counts();
  ++counts.lookups;
  const Entry entry = index_->find(row);
  if (entry != kAbsent) {
    ++counts.hits;
    if (is_prefetched(entry) && index_->clear_flag(row, kPrefetchedFlag)) {
      ++counts.prefetches_useful;
    }
    const Slot slot = slot_of(entry);
    policy_->touch({&slot, 1});
    return true;
  }
  if (calls_.samples > 0 && !missed_set_.insert(row).second) {
    ++counts.hits;  // the call has missed it before, and fetches it once
    return true;
  }
  ++counts.on_demand_fetches;
  if (!in_flight_.empty() && in_flight_.erase(row) > 0) {
    ++counts.prefetches_late;
  } else {
    counts.on_demand_device_reads += device_reads_.add(row) ? 1 : 0;
  }
  return false;
}

template <typename Observe>
void Simulator::step(Observe observe) {
  prefetches_.clear();
  bool more = false;
  do {
    const bool first = !more;
    more = planner_->collect(*this);
    if (first) observe();
    planner_->evaluate(*this);
    planner_->apply(*this);
    while (resident_ + planner_->reserve() > capacity_) evict();
    planner_->take_prefetches(prefetches_);
  } while (more);
  if (!prefetches_.empty()) prefetch(prefetches_);
}

void Simulator::prefetch(std::span<const RowId> rows) {
  check_rows(rows, rows_);
  issued_.clear();
  for (const RowId row : rows) {
    if (!is_resident(row) && !in_flight_.contains(row)) issued_.push_back(row);
  }
  drop_repeated(issued_);
  Counts& counts = active_counts();
  counts.prefetches_issued += issued_.size();
  device_reads_.begin_request();
  for (const RowId row : issued_) {
    counts.prefetch_device_reads += device_reads_.add(row) ? 1 : 0;
    if (prefetch_lag_ == 0) {
      admit(row, true);
      continue;
    }
    in_flight_[row] = now_ + prefetch_lag_;
    arrivals_.emplace_back(row, now_ + prefetch_lag_);
  }
  complete_prefetches();
}

void Simulator::complete_prefetches() {
  while (!arrivals_.empty() && arrivals_.front().second <= now_) {
    const auto [row, arrival] = arrivals_.front();
    arrivals_.pop_front();
    const auto in_flight = in_flight_.find(row);
    if (in_flight == in_flight_.end() || in_flight->second != arrival) continue;  // it was late
    in_flight_.erase(in_flight);
    admit(row, true);
  }
}

void Simulator::admit(RowId row, bool prefetched) {
  if (!policy_->admits(row)) return;
  if (free_.empty()) evict();
  const Slot slot = free_.front();
  free_.pop_front();
  while (resident_ >= capacity_) evict();
  ++resident_;
  row_in_[slot] = row;
  if (prefetched) {
    policy_->insert_prefetched(slot, row);
  } else {
    policy_->insert(slot, row);
  }
  index_->put(row, make_entry(slot, prefetched));
}

Slot Simulator::find_slot(RowId row) const {
  const Entry entry = index_->find(row);
  return entry == kAbsent ? kNoSlot : slot_of(entry);
}

void Simulator::evict() {
  const Slot slot = policy_->evict();
  const RowId row = row_in_[slot];
  policy_->note_evicted(row);
  --resident_;
  if (is_prefetched(index_->erase(row))) ++active_counts().prefetches_useless;
  ++active_counts().evictions;
  free_.push_back(slot);
}

}  // namespace tieralloc
