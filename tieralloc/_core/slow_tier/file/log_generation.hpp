// log_generation.hpp: a segment of the redo log, and where it has the values of rows.
//
// Concurrency: one thread at a time appends; `rows` and `find` need the owner's mutex.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "slow_tier/file/log_index.hpp"
#include "slow_tier/file/log_segment.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

/// A segment and where its rows are.
struct LogGeneration {
  std::uint64_t number = 0;
  std::unique_ptr<LogSegment> segment;
  LogIndex rows;
  std::uint64_t version = 0;  ///< of its last delta; 0: it has none

  bool has_intents() const {
    std::lock_guard lock(intents_mutex_);
    return !intents_.empty();
  }
  /// The footer that a page is to have, if a write of it may have begun.
  std::optional<PageFooter> intent_of(std::uint64_t page) const {
    std::lock_guard lock(intents_mutex_);
    const auto it = intents_.find(page);
    return it == intents_.end() ? std::nullopt : std::optional(it->second);
  }
  void add_intent(const PageFooter& footer) {
    std::lock_guard lock(intents_mutex_);
    intents_[footer.number * kPage] = footer;
  }

  /// Appends an update. `table` is the position of its table. `mutex` guards `rows`, which readers
  /// search under it. Requires room in the segment, and that one thread at a time appends. Throws
  /// SystemFailure and MemoryShortage, changing nothing.
  void append(std::uint32_t table, const TableLayout& layout, std::span<const TableRow> updated,
              const std::byte* values, std::mutex& mutex);

  /// Adds the rows of a replayed frame. Throws std::invalid_argument if they are not rows of these
  /// tables.
  void add_frame(const FrameHeader& header, std::uint64_t at, const std::byte* frame,
                 const std::vector<TableLayout>& tables, std::mutex& mutex,
                 const std::string& path);

  const std::byte* find(std::uint64_t row) const {
    const std::uint64_t at = rows.find(row);
    return at == 0 ? nullptr : segment->at(at);
  }

 private:
  mutable std::mutex intents_mutex_;
  std::unordered_map<std::uint64_t, PageFooter> intents_;  ///< by offset of the page
};

}  // namespace tieralloc
