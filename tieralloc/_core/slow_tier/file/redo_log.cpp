// redo_log.cpp: two segments and their rows.
#include "slow_tier/file/redo_log.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "base/limits.hpp"
#include "slow_tier/file/log_delta.hpp"

namespace tieralloc {
namespace {

void read_intents(LogGeneration& generation, const FrameHeader& header, const std::byte* frame) {
  for (std::uint32_t i = 0; i < header.count; ++i) {
    PageFooter footer;
    std::memcpy(&footer, frame + sizeof header + i * sizeof footer, sizeof footer);
    generation.add_intent(footer);
  }
}

}  // namespace

std::string RedoLog::path_of(std::uint64_t number) const {
  return options_.prefix + std::to_string(number);
}

void RedoLog::remove_others(std::uint64_t first, std::uint64_t last) const {
  const std::filesystem::path prefix = options_.prefix;
  const std::string name = prefix.filename().string();
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(prefix.parent_path(), ignored)) {
    const std::string file = entry.path().filename().string();
    if (!file.starts_with(name)) continue;
    const std::string digits = file.substr(name.size());
    const bool is_number = !digits.empty() && digits.size() < 20 &&
                           digits.find_first_not_of("0123456789") == std::string::npos;
    if (!is_number) continue;
    const std::uint64_t number = std::stoull(digits);
    const bool is_live = first != 0 && number >= first && number <= last;
    if (!is_live) std::filesystem::remove(entry.path(), ignored);
  }
}

void RedoLog::replay(std::uint64_t first, std::uint64_t last,
                     const std::vector<TableLayout>& tables, bool writable, std::uint64_t version) {
  last_number_ = last;
  version_ = version;
  if (writable) remove_others(first, last);
  if (first == 0) return;
  active_ = read_segment(last, tables, writable);
  if (first < last) {
    sealed_ = read_segment(first, tables, writable);
    if (sealed_->segment->frames() < active_->segment->former_frames()) {
      throw std::invalid_argument(sealed_->segment->path() +
                                  ": the redo log ends early; updates are lost");
    }
  } else if (active_->has_intents()) {
    sealed_ = std::move(active_);
  }
  for (const auto& generation : generations())
    version_ = std::max(version_.load(), generation->version);
  count_rows();
}

std::shared_ptr<LogGeneration> RedoLog::read_segment(std::uint64_t number,
                                                     const std::vector<TableLayout>& tables,
                                                     bool writable) const {
  auto generation = std::make_shared<LogGeneration>();
  generation->number = number;
  const std::string path = path_of(number);
  const auto add = [&](const FrameHeader& header, std::uint64_t at, const std::byte* frame) {
    generation->add_frame(header, at, frame, tables, mutex_, path);
  };
  DeltaReplay deltas(add);
  generation->segment =
      LogSegment::replay(path, options_.store_id ^ number, kLogSegmentBytes, writable,
                         [&](const FrameHeader& header, std::uint64_t at, const std::byte* frame) {
                           deltas.visit(header, at, frame);
                           if (header.kind == FrameKind::intents)
                             read_intents(*generation, header, frame);
                           if (header.kind == FrameKind::rows) add(header, at, frame);
                         });
  generation->version = deltas.end();
  return generation;
}

bool RedoLog::is_full(std::uint64_t bytes) const {
  std::lock_guard lock(mutex_);
  if (sealed_ == nullptr || active_ == nullptr) return false;
  return active_->segment->room() < bytes;
}

/// The active segment, with room for so many bytes.
LogGeneration& RedoLog::active_for(std::uint64_t bytes) {
  if (active_ != nullptr && active_->segment->room() < bytes) seal();
  if (active_ == nullptr) start_segment(bytes);
  return *active_;
}

void RedoLog::update(std::uint32_t table, const TableLayout& layout, std::span<const TableRow> rows,
                     const std::byte* values) {
  active_for(LogSegment::frame_bytes(rows.size(), layout.stride))
      .append(table, layout, rows, values, mutex_);
  std::lock_guard lock(mutex_);
  count_rows();
}

void RedoLog::start_segment(std::uint64_t min_bytes) {
  std::lock_guard changing(segments_);
  const auto former = sealed();
  if (former != nullptr) {  // the log has no gaps
    std::lock_guard syncing(sync_mutex_);
    former->segment->sync();
  }
  auto generation = std::make_shared<LogGeneration>();
  generation->number = last_number_ + 1;
  Spare spare = take_spare();
  generation->rows = std::move(spare.rows);
  generation->segment = LogSegment::create(
      path_of(generation->number), options_.store_id ^ generation->number,
      std::max<std::uint64_t>(kLogSegmentBytes, min_bytes), options_.permissions,
      former == nullptr ? 0 : former->segment->sealed_frames(), std::move(spare.memory));
  try {
    announce_(former == nullptr ? generation->number : former->number, generation->number, 0);
  } catch (...) {
    generation->segment->remove();
    throw;
  }
  last_number_ = generation->number;
  std::lock_guard lock(mutex_);
  active_ = std::move(generation);
}

bool RedoLog::find(std::uint64_t row, std::span<std::byte> value) const {
  std::lock_guard lock(mutex_);
  for (const LogGeneration* generation : {active_.get(), sealed_.get()}) {
    const std::byte* found = generation == nullptr ? nullptr : generation->find(row);
    if (found == nullptr) continue;
    std::memcpy(value.data(), found, value.size());
    return true;
  }
  return false;
}

bool RedoLog::has(std::uint64_t row) const {
  std::lock_guard lock(mutex_);
  return (active_ != nullptr && active_->find(row) != nullptr) ||
         (sealed_ != nullptr && sealed_->find(row) != nullptr);
}

bool RedoLog::is_active(std::uint64_t row) const {
  std::lock_guard lock(mutex_);
  return active_ != nullptr && active_->find(row) != nullptr;
}

std::vector<std::shared_ptr<LogGeneration>> RedoLog::generations() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<LogGeneration>> generations;
  for (const auto& generation : {sealed_, active_}) {  // the older first
    if (generation != nullptr) generations.push_back(generation);
  }
  return generations;
}

std::uint64_t RedoLog::bytes() const {
  std::lock_guard lock(mutex_);
  std::uint64_t bytes = 0;
  for (const LogGeneration* generation : {active_.get(), sealed_.get()}) {
    if (generation != nullptr) bytes += generation->segment->end() + generation->rows.bytes();
  }
  return bytes + spare_.memory_used + spare_.rows.bytes();
}

/// Under the mutex.
void RedoLog::count_rows() {
  num_rows_.store((active_ == nullptr ? 0 : active_->rows.size()) +
                      (sealed_ == nullptr ? 0 : sealed_->rows.size()),
                  std::memory_order_release);
}

void RedoLog::sync() {
  std::lock_guard syncing(sync_mutex_);
  for (const auto& generation : generations()) generation->segment->sync();
}

std::uint64_t RedoLog::unsynced_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& generation : generations()) bytes += generation->segment->unsynced_bytes();
  return bytes;
}

bool RedoLog::seal() {
  std::lock_guard lock(mutex_);
  if (active_ == nullptr || sealed_ != nullptr) return false;
  active_->segment->seal();
  sealed_ = std::move(active_);
  return true;
}

std::shared_ptr<LogGeneration> RedoLog::sealed() const {
  std::lock_guard lock(mutex_);
  return sealed_;
}

void RedoLog::add_intents(std::span<const PageFooter> footers) {
  LogGeneration& generation = *sealed_;
  generation.segment->append(
      FrameKind::intents, static_cast<std::uint32_t>(footers.size()), footers.size_bytes(), 0,
      [&](std::byte* payload) { std::memcpy(payload, footers.data(), footers.size_bytes()); });
  for (const PageFooter& footer : footers) generation.add_intent(footer);
  std::lock_guard syncing(sync_mutex_);
  generation.segment->sync();
}

void RedoLog::cut() {
  std::lock_guard changing(segments_);
  std::uint64_t active = 0;
  {
    std::lock_guard lock(mutex_);
    if (active_ != nullptr) active = active_->number;
  }
  announce_(active, last_number_, sealed_->version);
  std::shared_ptr<LogGeneration> ended;
  {
    std::lock_guard lock(mutex_);
    ended = std::move(sealed_);
    sealed_ = nullptr;
    count_rows();
  }
  ended->segment->remove();
  if (ended.use_count() != 1) return;
  // The reads of threads that dropped theirs come first: dropping a copy acquires, `use_count` does
  // not.
  std::shared_ptr<LogGeneration>(ended).reset();
  keep_spare(*ended);
}

/// Keeps the memory of a segment that ended, whose first use would hold updates up.
void RedoLog::keep_spare(LogGeneration& ended) {
  Spare spare{.memory_used = ended.segment->end(), .rows = std::move(ended.rows)};
  spare.memory = ended.segment->take_memory();
  spare.rows.clear();
  std::lock_guard lock(mutex_);
  std::swap(spare_, spare);
}

RedoLog::Spare RedoLog::take_spare() {
  std::lock_guard lock(mutex_);
  return std::exchange(spare_, {});
}

void RedoLog::release_spare() {
  const Spare released = take_spare();
}

}  // namespace tieralloc
