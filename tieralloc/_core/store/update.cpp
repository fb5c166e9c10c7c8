// update.cpp: new values of rows, and their way home.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "base/error.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kWriteBackRows = 256;
constexpr std::size_t kWriteBackBytes = std::size_t{4} << 20;
constexpr std::uint64_t kDropCachesEvery = std::uint64_t{32} << 20;
constexpr std::size_t kLoadChunk = std::size_t{4} << 20;

/// A dense row in a buffer of a whole stride, the rest of it zero.
class PaddedRow {
 public:
  explicit PaddedRow(const Table& table)
      : bytes_(table.layout.stride), row_bytes_(table.row_bytes()) {}
  const std::byte* operator()(const std::byte* values, std::size_t i) {
    std::memcpy(bytes_.data(), values + i * row_bytes_, row_bytes_);
    return bytes_.data();
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t row_bytes_;
};

}  // namespace

void Store::update(const Table& table, Integers indices, const std::byte* values) {
  check_fork();
  validate_rows(table, indices, BoundsCheck::fatal);
  std::optional<ReadGuard> guard;
  enter(guard);
  PaddedRow padded(table);
  for (std::size_t i = 0; i < indices.size; ++i) {
    store_row(table, row_at(table, indices, i), padded(values, i));
    updates_.fetch_add(1, std::memory_order_relaxed);
  }
  wake_cleaner(*table.tier);
}

/// Waits for a slot if it must: unlike a lookup, an update has nowhere else to put its value.
void Store::store_row(const Table& table, TableRow row, const std::byte* bytes) {
  FastTier& tier = *table.tier;
  while (true) {
    {
      std::lock_guard lock(tier.mutex());
      if (tier.store(table.first_row + row, bytes)) return;
    }
    make_room(tier);
  }
}

/// For who found no free slot: either leaving rows hold the spare ones, or readers do, for some
/// microseconds.
void Store::make_room(FastTier& tier) {
  if (write_back_some(tier, false) == 0) std::this_thread::yield();
}

void Store::load(const Table& table, std::uint64_t first, std::uint64_t n,
                 const std::byte* values) {
  check_fork();
  if (first > table.layout.rows || n > table.layout.rows - first) {
    throw std::invalid_argument("table '" + table.layout.name + "' has " +
                                std::to_string(table.layout.rows) + " rows; " + std::to_string(n) +
                                " from row " + std::to_string(first) + " on do not fit");
  }
  const std::size_t stride = table.layout.stride;
  const std::size_t chunk_rows = std::max<std::size_t>(1, kLoadChunk / stride);
  std::vector<std::byte> chunk(chunk_rows * stride);
  for (std::uint64_t at = 0; at < n; at += chunk_rows) {
    const std::size_t rows = std::min<std::uint64_t>(chunk_rows, n - at);
    for (std::size_t i = 0; i < rows; ++i) {
      std::memcpy(chunk.data() + i * stride, values + (at + i) * table.row_bytes(),
                  table.row_bytes());
    }
    ExclusiveGuard exclusive(epochs_);
    epochs_.check_open();
    std::lock_guard writing(write_back_);
    pool_->write(table.offset_of({first + at}), {chunk.data(), rows * stride});
    written_since_drop_ += rows * stride;
    if (written_since_drop_ >= kDropCachesEvery) {
      pool_->drop_caches();
      written_since_drop_ = 0;
    }
    if (table.tier == nullptr) continue;
    std::lock_guard lock(table.tier->mutex());
    for (std::size_t i = 0;
         i < rows && table.tier->resident_rows() + table.tier->dirty().num_victims() > 0; ++i) {
      table.tier->replace(table.first_row + TableRow{first + at + i}, chunk.data() + i * stride);
    }
  }
}

void Store::settle() {
  check_fork();
  ReadGuard guard(epochs_);
  std::lock_guard writing(write_back_);
  pool_->drop_caches();
  written_since_drop_ = 0;
}

/// Writes some dirty rows home; of those that are not leaving only if `all`. Returns how many could
/// be written. Throws where none of them could.
std::size_t Store::write_back_some(FastTier& tier, bool all) {
  std::lock_guard writing(write_back_);
  const std::size_t most =
      std::clamp<std::size_t>(kWriteBackBytes / tier.stride(), 1, kWriteBackRows);
  std::vector<std::byte> copies(most * tier.stride());
  std::vector<DirtyRow> rows;
  {
    std::lock_guard lock(tier.mutex());
    rows = tier.collect_dirty(most, all, copies.data());
  }
  // They are in the index until they are home: who begins to read now finds them there.
  if (pool_->in_place() && !rows.empty()) epochs_.wait_for_readers();
  // On a full disk a row that has its block already can be written though another cannot.
  std::vector<DirtyRow> written, kept;
  std::optional<SystemFailure> failure;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    try {
      pool_->write(tier.slow_offsets().of(rows[i].row),
                   {copies.data() + i * tier.stride(), tier.stride()});
      written.push_back(rows[i]);
    } catch (const SystemFailure& refusal) {
      kept.push_back(rows[i]);
      failure = refusal;
    }
  }
  {
    std::lock_guard lock(tier.mutex());
    tier.written_back(written, true);
    tier.written_back(kept, false);
  }
  if (!rows.empty()) {
    std::lock_guard lock(error_mutex_);
    write_back_error_ = failure ? failure->what() : "";
  }
  if (failure && written.empty()) throw *failure;
  written_since_drop_ += written.size() * tier.stride();
  if (written_since_drop_ >= kDropCachesEvery) {
    pool_->drop_caches();
    written_since_drop_ = 0;
  }
  return written.size();
}

/// About as many rows as are dirty when it begins, each batch in a call of its own.
void Store::write_back_most() {
  std::size_t dirty = 0;
  {
    ReadGuard guard(epochs_);
    for (auto& tier : tiers_) {
      std::lock_guard lock(tier->mutex());
      dirty += tier->dirty().count();
    }
  }
  while (dirty > 0) {
    ReadGuard guard(epochs_);
    std::size_t written = 0;
    for (auto& tier : tiers_) written += write_back_some(*tier, true);
    if (written == 0) return;
    dirty -= std::min(dirty, written);
  }
}

void Store::write_back_all(FastTier& tier) {
  while (true) {
    {
      std::lock_guard lock(tier.mutex());
      if (tier.dirty().count() == 0) return;
    }
    write_back_some(tier, true);
  }
}

void Store::wake_cleaner(FastTier& tier) {
  if (!tier.dirty().take_request()) return;
  {
    std::lock_guard lock(cleaner_mutex_);
    cleaner_asked_ = true;
  }
  cleaner_wake_.notify_one();
}

/// A batch of every tier that needs it. In a call of its own, so that who must be alone waits for
/// no more than that. False where none needs it.
bool Store::clean_some() {
  ReadGuard guard(epochs_);
  bool any = false;
  for (auto& tier : tiers_) {
    {
      std::lock_guard lock(tier->mutex());
      if (!tier->dirty().needs_write_back()) continue;
    }
    write_back_some(*tier, true);
    any = true;
  }
  return any;
}

/// Rows go home ahead of need: evicted ones at once, the others once more than an eighth of the
/// tier is dirty, until a sixteenth is. After a failure it waits, because a disk that is full does
/// not empty by being asked.
void Store::clean_in_background() {
  constexpr auto kRetry = std::chrono::milliseconds(100);
  bool failed = false;
  while (true) {
    {
      std::unique_lock lock(cleaner_mutex_);
      const auto due = [&] { return stopping_ || cleaner_asked_; };
      if (failed) {
        cleaner_wake_.wait_for(lock, kRetry, due);
      } else {
        cleaner_wake_.wait(lock, due);
      }
      if (stopping_) return;
      cleaner_asked_ = false;
    }
    failed = false;
    try {
      while (clean_some()) {
      }
    } catch (const std::invalid_argument&) {
      return;  // closed
    } catch (const std::exception&) {
      // The disk, which is kept for stats() and raised by whoever needs the slots or flushes, or no
      // memory.
      failed = true;
    }
  }
}

}  // namespace tieralloc
