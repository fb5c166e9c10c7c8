// belady.cpp: OPT on the positions of next uses.
#include "sim/belady.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "sim/bit_tree.hpp"

namespace tieralloc {
namespace {

using Position = std::uint32_t;  ///< of an access in the stream
constexpr Position kNever = std::numeric_limits<Position>::max();

void check_length(std::size_t accesses) {
  if (accesses < kNever) return;
  throw std::invalid_argument("accesses: too many for opt; expected fewer than " +
                              std::to_string(kNever) + ", got " + std::to_string(accesses));
}

/// Writes the position of each access's next use; `never` if the row is not used again.
void find_next_uses(std::span<const RowId> accesses, std::uint64_t rows, Position never,
                    std::span<Position> next) {
  std::vector<Position> soonest(rows, never);
  for (std::size_t i = accesses.size(); i-- > 0;) {
    next[i] = soonest[accesses[i]];
    soonest[accesses[i]] = static_cast<Position>(i);
  }
}

/// The resident rows, identified by the positions of their next uses. These are unique, and an
/// access is a hit if its own position is among them.
class Residents {
 public:
  explicit Residents(std::size_t accesses) : used_again_(accesses) {}

  std::uint64_t size() const { return size_; }

  void insert(Position next_use) {
    ++size_;
    if (next_use == kNever) {
      ++never_used_again_;
    } else {
      used_again_.insert(next_use);
    }
  }

  /// Removes the row used at position `now`; false if it is not resident.
  bool take(Position now) {
    if (!used_again_.contains(now)) return false;
    used_again_.erase(now);
    --size_;
    return true;
  }

  void evict_farthest() {
    --size_;
    if (never_used_again_ > 0) {
      --never_used_again_;
    } else {
      used_again_.erase(used_again_.max());
    }
  }

 private:
  BitTree used_again_;
  std::uint64_t never_used_again_ = 0;
  std::uint64_t size_ = 0;
};

/// Calls visit(position, is_hit, has_evicted) at each access. `next` are the positions of next
/// uses.
template <typename Visit>
void run_opt(std::span<const Position> next, std::uint32_t capacity, Visit visit) {
  Residents residents(next.size());
  for (std::size_t i = 0; i < next.size(); ++i) {
    const bool is_hit = residents.take(static_cast<Position>(i));
    const bool is_full = residents.size() == capacity;  // false after a hit
    if (is_full) residents.evict_farthest();
    visit(i, is_hit, is_full);
    residents.insert(next[i]);
  }
}

std::vector<Position> checked_next_uses(std::span<const RowId> accesses, std::uint64_t rows,
                                        std::uint32_t capacity) {
  if (capacity < 1) {
    throw std::invalid_argument(
        "capacity: too small; expected a capacity of at least 1 row, got 0");
  }
  check_length(accesses.size());
  check_rows(accesses, rows);
  std::vector<Position> next(accesses.size());
  find_next_uses(accesses, rows, kNever, next);
  return next;
}

/// The requests whose last access is counted.
std::uint64_t count_calls(const Requests& requests, std::uint64_t accesses,
                          std::uint64_t count_from) {
  if (requests.samples == 0) return accesses - std::min(accesses, count_from);
  std::uint64_t calls = 0;
  std::uint64_t begin = 0;
  for (std::size_t at = 0; at < requests.sample_lengths.size(); at += requests.samples) {
    const auto left = requests.sample_lengths.subspan(at);
    const auto request = left.first(std::min(requests.samples, left.size()));
    const std::uint64_t end = std::accumulate(request.begin(), request.end(), begin);
    calls += std::max(begin + 1, end) > count_from ? 1 : 0;
    begin = end;
  }
  return calls;
}

/// Finds the last access of each request, in one pass.
class RequestEnds {
 public:
  explicit RequestEnds(const Requests& requests)
      : samples_(requests.samples), lengths_(requests.sample_lengths) {}

  /// For accesses in order.
  bool is_last(std::size_t access) {
    if (samples_ == 0) return true;
    while (access >= end_) {
      const auto request = lengths_.first(std::min(samples_, lengths_.size()));
      end_ = std::accumulate(request.begin(), request.end(), end_);
      lengths_ = lengths_.subspan(request.size());
    }
    return access + 1 == end_;
  }

 private:
  std::size_t samples_;
  std::span<const std::uint32_t> lengths_;
  std::size_t end_ = 0;  ///< of the request
};

}  // namespace

Counts belady(std::span<const RowId> accesses, std::uint64_t rows, std::uint32_t capacity,
              std::uint64_t count_from, Requests requests) {
  if (requests.samples > 0) check_lengths(accesses, requests.sample_lengths);
  const std::uint64_t num_calls = count_calls(requests, accesses.size(), count_from);
  RequestEnds ends(requests);
  DeviceReads reads(std::move(requests.pages), rows);
  Counts counts;
  run_opt(checked_next_uses(accesses, rows, capacity), capacity,
          [&](std::size_t i, bool hit, bool evicted) {
            const bool is_last = ends.is_last(i);
            const bool is_read = !hit && reads.add(accesses[i]);
            if (i >= count_from) {
              ++counts.lookups;
              ++(hit ? counts.hits : counts.on_demand_fetches);
              counts.evictions += evicted ? 1 : 0;
              counts.on_demand_device_reads += is_read ? 1 : 0;
            }
            if (is_last) reads.begin_request();
          });
  counts.calls = num_calls;
  return counts;
}

void opt_labels(std::span<const RowId> accesses, std::uint64_t rows, std::uint32_t capacity,
                std::span<std::uint8_t> missed, std::span<std::uint8_t> kept) {
  const std::vector<Position> next = checked_next_uses(accesses, rows, capacity);
  run_opt(next, capacity, [&](std::size_t i, bool hit, bool) { missed[i] = hit ? 0 : 1; });
  for (std::size_t i = 0; i < next.size(); ++i) {
    kept[i] = next[i] != kNever && missed[next[i]] == 0 ? 1 : 0;
  }
}

void next_uses(std::span<const RowId> accesses, std::uint64_t rows,
               std::span<std::uint32_t> positions) {
  check_length(accesses.size());
  check_rows(accesses, rows);
  find_next_uses(accesses, rows, static_cast<Position>(accesses.size()), positions);
}

}  // namespace tieralloc
