#include "belady.hpp"

#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "bit_tree.hpp"

namespace tieralloc {
namespace {

using Position = std::uint32_t;  ///< of an access in the stream
constexpr Position kNever = std::numeric_limits<Position>::max();

std::vector<Position> next_uses(std::span<const RowId> accesses, std::uint64_t rows) {
  std::vector<Position> next(accesses.size());
  std::vector<Position> soonest(rows, kNever);
  for (std::size_t i = accesses.size(); i-- > 0;) {
    next[i] = soonest[accesses[i]];
    soonest[accesses[i]] = static_cast<Position>(i);
  }
  return next;
}

/// The residents, each known by the position of its next use alone: no two share one, and an access
/// is a hit where its own position is among them.
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

  /// Whether the row used at `now` is one of them; it leaves.
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
      used_again_.erase(used_again_.greatest());
    }
  }

 private:
  BitTree used_again_;
  std::uint64_t never_used_again_ = 0;
  std::uint64_t size_ = 0;
};

}  // namespace

Counts belady(std::span<const RowId> accesses, std::uint64_t rows, std::uint32_t capacity,
              std::uint64_t count_from) {
  if (capacity < 1) throw std::invalid_argument("opt needs a capacity of at least 1 row, got 0");
  if (accesses.size() >= kNever) {
    throw std::invalid_argument("opt takes fewer than " + std::to_string(kNever) +
                                " accesses, got " + std::to_string(accesses.size()));
  }
  check_rows(accesses, rows);
  const std::vector<Position> next = next_uses(accesses, rows);
  Residents residents(accesses.size());
  Counts warm;
  Counts counted;
  for (std::size_t i = 0; i < accesses.size(); ++i) {
    Counts& counts = i < count_from ? warm : counted;
    ++counts.lookups;
    if (residents.take(static_cast<Position>(i))) {
      ++counts.hits;
    } else {
      ++counts.on_demand_fetches;
      if (residents.size() == capacity) {
        residents.evict_farthest();
        ++counts.evictions;
      }
    }
    residents.insert(next[i]);
  }
  return counted;
}

}  // namespace tieralloc
