// naive.cpp: eviction policies on std::list and std::deque.
#include "eviction/naive.hpp"

#include <algorithm>
#include <deque>
#include <iterator>
#include <list>
#include <vector>

namespace {

using tieralloc::kNoRow;
using tieralloc::RowId;

struct NaiveLru final : NaivePolicy {
  std::list<RowId> rows;  // least recent first
  void insert(RowId row) override { rows.push_back(row); }
  void touch(RowId row) override {
    rows.remove(row);
    rows.push_back(row);
  }
  RowId evict() override {
    if (rows.empty()) return kNoRow;
    const RowId row = rows.front();
    rows.pop_front();
    return row;
  }
  void remove(RowId row) override { rows.remove(row); }
};

struct NaiveLfu final : NaivePolicy {
  struct Row {
    RowId row;
    std::uint64_t frequency, last_access;
  };
  std::vector<Row> rows;
  std::uint64_t clock = 0;

  void insert(RowId row) override { rows.push_back({row, 1, ++clock}); }
  void touch(RowId row) override {
    for (Row& held : rows) {
      if (held.row == row) held = {row, held.frequency + 1, ++clock};
    }
  }
  RowId evict() override {
    const auto victim = std::min_element(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
      return a.frequency != b.frequency ? a.frequency < b.frequency : a.last_access < b.last_access;
    });
    if (victim == rows.end()) return kNoRow;
    const RowId row = victim->row;
    rows.erase(victim);
    return row;
  }
  void remove(RowId row) override {
    std::erase_if(rows, [row](const Row& held) { return held.row == row; });
  }
};

struct Counted {
  RowId row;
  int hits;
};

template <typename Rows>
void erase_row(Rows& rows, RowId row) {
  std::erase_if(rows, [row](const Counted& held) { return held.row == row; });
}

template <typename Rows>
bool count_hit(Rows& rows, RowId row, int max) {
  for (Counted& held : rows) {
    if (held.row != row) continue;
    held.hits = std::min(held.hits + 1, max);
    return true;
  }
  return false;
}

struct NaiveClock final : NaivePolicy {
  std::deque<Counted> ring;  // the hand is at the front
  void insert(RowId row) override { ring.push_back({row, 0}); }
  void touch(RowId row) override { count_hit(ring, row, 1); }
  RowId evict() override {
    while (!ring.empty()) {
      const Counted candidate = ring.front();
      ring.pop_front();
      if (candidate.hits == 0) return candidate.row;
      ring.push_back({candidate.row, 0});
    }
    return kNoRow;
  }
  void remove(RowId row) override { erase_row(ring, row); }
};

struct NaiveSieve final : NaivePolicy {
  std::list<Counted> queue;  // the oldest first
  std::list<Counted>::iterator hand = queue.end();

  void insert(RowId row) override { queue.push_back({row, 0}); }
  void touch(RowId row) override { count_hit(queue, row, 1); }
  RowId evict() override {
    if (queue.empty()) return kNoRow;
    if (hand == queue.end()) hand = queue.begin();
    while (hand->hits > 0) {
      hand->hits = 0;
      if (++hand == queue.end()) hand = queue.begin();
    }
    const RowId row = hand->row;
    hand = queue.erase(hand);
    return row;
  }
  void remove(RowId row) override {
    for (auto it = queue.begin(); it != queue.end(); ++it) {
      if (it->row != row) continue;
      const auto next = queue.erase(it);
      if (hand == it) hand = next;
      return;
    }
  }
};

struct NaiveS3Fifo final : NaivePolicy {
  std::size_t small_size, main_size;
  std::deque<Counted> small, main;  // the oldest first
  std::deque<RowId> ghosts;
  std::size_t max_ghosts;
  bool has_evicted = false;

  explicit NaiveS3Fifo(std::uint32_t capacity)
      : small_size(std::max<std::size_t>(1, capacity / 10)),
        main_size(capacity - small_size),
        max_ghosts(std::max(1u, capacity * 9 / 10)) {}

  void insert(RowId row) override {
    const auto ghost = std::find(ghosts.begin(), ghosts.end(), row);
    const bool is_ghost = ghost != ghosts.end();
    if (is_ghost) ghosts.erase(ghost);
    shorten();
    const bool is_small_full = !has_evicted && small.size() >= small_size;
    (is_ghost || is_small_full ? main : small).push_back({row, 0});
  }
  void touch(RowId row) override {
    if (!count_hit(small, row, 3)) count_hit(main, row, 3);
  }
  RowId evict() override {
    has_evicted = true;
    if (main.size() <= main_size) {
      while (!small.empty()) {
        const Counted oldest = small.front();
        small.pop_front();
        if (oldest.hits >= 2) {
          main.push_back({oldest.row, 0});
          continue;
        }
        shorten();
        ghosts.push_back(oldest.row);
        return oldest.row;
      }
    }
    while (!main.empty()) {
      const Counted oldest = main.front();
      main.pop_front();
      if (oldest.hits == 0) return oldest.row;
      main.push_back({oldest.row, oldest.hits - 1});
    }
    return kNoRow;
  }
  void remove(RowId row) override {
    erase_row(small, row);
    erase_row(main, row);
  }

  void shorten() {
    while (ghosts.size() > max_ghosts) ghosts.pop_front();
  }
};

}  // namespace

std::unique_ptr<NaivePolicy> make_naive_policy(const std::string& name, std::uint32_t capacity) {
  if (name == "lru") return std::make_unique<NaiveLru>();
  if (name == "lfu") return std::make_unique<NaiveLfu>();
  if (name == "clock") return std::make_unique<NaiveClock>();
  if (name == "sieve") return std::make_unique<NaiveSieve>();
  if (name == "s3fifo") return std::make_unique<NaiveS3Fifo>(capacity);
  return nullptr;
}
