// write_back.cpp: dirty rows written to the slow tier, for a caller or in the background.
//
//   under write_back_mutex_, so that one writer at a time is active:
//     collect a batch of dirty rows (FastTier, under its lock)
//     if rows are read in place: wait for readers that started before the rows were in the index
//     write the rows; report successes and failures to the FastTier
#include <algorithm>
#include <chrono>

#include "base/error.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kMaxBatchRows = 256;
constexpr std::size_t kMaxBatchBytes = std::size_t{4} << 20;
constexpr std::uint64_t kDropCachesBytes = std::uint64_t{32} << 20;
constexpr auto kRetryInterval = std::chrono::milliseconds(100);

}  // namespace

/// Writes some dirty rows back; residents only if `residents`. Returns the number of rows written.
/// Throws SystemFailure if there were rows and none could be written.
std::size_t Store::write_back_batch(FastTier& tier, bool residents) {
  std::lock_guard writing(write_back_mutex_);
  const std::size_t max_rows =
      std::clamp<std::size_t>(kMaxBatchBytes / tier.stride(), 1, kMaxBatchRows);
  std::vector<std::byte> copies(max_rows * tier.stride());
  std::vector<DirtyRow> rows;
  {
    std::lock_guard lock(tier.mutex());
    rows = tier.collect_dirty(max_rows, residents, copies.data());
  }
  // The index has the rows until they are written: readers that start now find them there.
  if (pool_->in_place() && !rows.empty()) epochs_.wait_for_readers();
  // On a full disk one row may fail while another, which has its block already, succeeds.
  std::vector<DirtyRow> written, failed;
  std::optional<SystemFailure> failure;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    try {
      pool_->write(tier.slow_offsets().of(rows[i].row),
                   {copies.data() + i * tier.stride(), tier.stride()});
      written.push_back(rows[i]);
    } catch (const SystemFailure& error) {
      failed.push_back(rows[i]);
      failure = error;
    }
  }
  {
    std::lock_guard lock(tier.mutex());
    tier.written_back(written, true);
    tier.written_back(failed, false);
  }
  if (!rows.empty()) {
    std::lock_guard lock(error_mutex_);
    write_back_error_ = failure ? failure->what() : "";
  }
  if (failure && written.empty()) throw *failure;
  count_written(written.size() * tier.stride());
  return written.size();
}

/// Under `write_back_mutex_`. Drops the page cache of writes from time to time.
void Store::count_written(std::uint64_t bytes) {
  written_bytes_ += bytes;
  if (written_bytes_ < kDropCachesBytes) return;
  pool_->drop_caches();
  written_bytes_ = 0;
}

/// About as many rows as are dirty now. Holds a ReadGuard per batch only.
void Store::write_back_most() {
  std::size_t dirty = 0;
  {
    ReadGuard guard(epochs_);
    for (auto& tier : tiers_) dirty += tier->dirty().count();
  }
  while (dirty > 0) {
    ReadGuard guard(epochs_);
    std::size_t written = 0;
    for (auto& tier : tiers_) written += write_back_batch(*tier, true);
    if (written == 0) return;
    dirty -= std::min(dirty, written);
  }
}

void Store::write_back_all(FastTier& tier) {
  while (tier.dirty().count() > 0) write_back_batch(tier, true);
}

void Store::wake_write_back(FastTier& tier) {
  if (!tier.dirty().take_request()) return;
  {
    std::lock_guard lock(write_back_wake_mutex_);
    write_back_requested_ = true;
  }
  write_back_wake_.notify_one();
}

/// Writes a batch of every tier that needs it, with a ReadGuard per round, so that an
/// ExclusiveGuard waits for no more than that. False if no tier needs it.
bool Store::write_back_due() {
  ReadGuard guard(epochs_);
  bool is_due = false;
  for (auto& tier : tiers_) {
    {
      std::lock_guard lock(tier->mutex());
      if (!tier->dirty().needs_write_back()) continue;
    }
    write_back_batch(*tier, true);
    is_due = true;
  }
  return is_due;
}

/// Waits after a failure, because a full disk stays full for a while.
void Store::write_back_in_background() {
  bool has_failed = false;
  while (true) {
    {
      std::unique_lock lock(write_back_wake_mutex_);
      const auto due = [&] { return stopping_ || write_back_requested_; };
      if (has_failed) {
        write_back_wake_.wait_for(lock, kRetryInterval, due);
      } else {
        write_back_wake_.wait(lock, due);
      }
      if (stopping_) return;
      write_back_requested_ = false;
    }
    has_failed = false;
    try {
      while (write_back_due()) {
      }
    } catch (const std::invalid_argument&) {
      return;  // the store was closed
    } catch (const std::exception&) {
      // The disk: stats() keeps the error, and callers that need the slots or flush raise it. Or
      // memory.
      has_failed = true;
    }
  }
}

}  // namespace tieralloc
