// fetch_batch.cpp: merges rows into reads of whole blocks.
#include "slow_tier/fetch_batch.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <numeric>
#include <vector>

#include "base/counters.hpp"
#include "base/error.hpp"
#include "base/limits.hpp"

namespace tieralloc {
namespace {

constexpr std::uint32_t kUnplaced = 0xFFFFFFFFu;

}  // namespace

FetchBatch::FetchBatch(SlowPool& pool, BufferPool& buffers, std::size_t max_items,
                       std::uint64_t max_gap)
    : pool_(pool),
      buffers_(buffers),
      max_gap_(max_gap),
      items_(std::make_unique<FetchItem[]>(max_items)),
      ops_(std::make_unique<ReadOp[]>(max_items)) {}

FetchBatch::~FetchBatch() {
  if (memory_.size() > 0) buffers_.give_back(std::move(memory_));
}

std::uint32_t FetchBatch::add(const RowAddress& row, bool is_prefetch) {
  FetchItem& item = items_[size_];
  item.row = row;
  item.is_prefetch = is_prefetch;
  return size_++;
}

/// Assigns each item its place in a read. Reads are issued in the order in which their first items
/// were added, so that items complete in about that order.
void FetchBatch::plan() {
  const std::uint64_t block = pool_.block();
  std::vector<std::uint32_t> by_page(size_);
  std::iota(by_page.begin(), by_page.end(), 0u);
  std::sort(by_page.begin(), by_page.end(), [&](auto a, auto b) {
    const RowAddress& first = items_[a].row;
    const RowAddress& second = items_[b].row;
    if (first.page != second.page) return first.page < second.page;
    // Tables of a checkpoint may share bytes: the longest page leads.
    return first.page_bytes != second.page_bytes ? first.page_bytes > second.page_bytes : a < b;
  });

  struct Extent {
    std::uint64_t begin, end, needed_end;
  };
  std::vector<Extent> extents;
  std::uint32_t leader = kUnplaced;
  for (std::uint32_t i : by_page) {
    FetchItem& item = items_[i];
    if (leader != kUnplaced && items_[leader].row.page == item.row.page) {
      item.leader = leader;
      item.op = items_[leader].op;
      item.at = items_[leader].at;
      continue;
    }
    item.leader = leader = i;
    const std::uint64_t begin = item.row.page / block * block;
    const std::uint64_t needed_end = item.row.page + item.row.page_bytes;
    const std::uint64_t end = round_up(needed_end, block);
    if (!extents.empty() && begin <= extents.back().end + max_gap_ &&
        end - extents.back().begin <= kMaxReadBytes) {
      extents.back().end = std::max(extents.back().end, end);
      extents.back().needed_end = std::max(extents.back().needed_end, needed_end);
    } else {
      extents.push_back({begin, end, needed_end});
    }
    item.op = static_cast<std::uint32_t>(extents.size() - 1);
    item.at = static_cast<std::uint32_t>(item.row.page - extents.back().begin);
  }

  std::uint64_t total = 0;
  for (const Extent& extent : extents) total += extent.end - extent.begin;
  memory_ = buffers_.take(total);
  std::vector<std::uint32_t> op_of(extents.size(), kUnplaced);
  std::byte* buffer = memory_.data();
  for (std::uint32_t i = 0; i < size_; ++i) {
    std::uint32_t& op = op_of[items_[i].op];
    if (op == kUnplaced) {
      const Extent& extent = extents[items_[i].op];
      op = num_ops_++;
      ops_[op].offset = extent.begin;
      ops_[op].length = static_cast<std::uint32_t>(extent.end - extent.begin);
      ops_[op].slack = static_cast<std::uint32_t>(extent.end - extent.needed_end);
      ops_[op].buffer = buffer;
      buffer += ops_[op].length;
    }
    items_[i].op = op;
  }
}

void FetchBatch::read(const OnComplete& on_complete) {
  on_complete_ = &on_complete;
  if (size_ > 0) read_all();
  on_completions();
  if (callback_error_ != nullptr) std::rethrow_exception(callback_error_);
}

void FetchBatch::read_all() {
  // Other calls may wait by now: every item gets a result, whatever fails.
  int code = EIO;
  try {
    plan();
    started_ns_ = now_ns();
    publish_plan();
    pool_.read({ops_.get(), num_ops_}, *this);
    return;
  } catch (const SystemFailure& failure) {
    code = failure.code;
  } catch (const std::exception&) {
    code = ENOMEM;
  }
  fail(code);
}

void FetchBatch::fail(int code) noexcept {
  if (size_ == 0) return;
  if (num_ops_ == 0) {  // not planned: one read stands for all
    num_ops_ = 1;
    for (std::uint32_t i = 0; i < size_; ++i) {
      items_[i].op = items_[i].at = 0;
      items_[i].leader = i;
    }
  }
  for (std::uint32_t i = 0; i < num_ops_; ++i) {
    if (ops_[i].result.load() == ReadOp::kPending) ops_[i].finish(-code, now_ns());
  }
  publish_plan();
}

void FetchBatch::on_completions() noexcept {
  const std::uint32_t first = num_reported_;
  std::uint32_t last = first;
  while (last < size_ &&
         ops_[items_[last].op].result.load(std::memory_order_acquire) != ReadOp::kPending) {
    ++last;
  }
  if (last == first) return;
  num_reported_ = last;
  for (std::uint32_t i = first; i < last; ++i) wait(i);  // checks pages before a lock is taken
  try {
    (*on_complete_)(first, last);
  } catch (...) {
    callback_error_ = std::current_exception();
  }
}

std::int32_t FetchBatch::wait(std::uint32_t i) {
  is_planned_.wait(false, std::memory_order_acquire);
  FetchItem& leader = items_[items_[i].leader];
  const std::int32_t outcome = leader.outcome.load(std::memory_order_acquire);
  if (outcome != FetchItem::kUnchecked) return outcome;
  const std::int32_t error = ops_[leader.op].wait();
  return error != 0 ? error : check(leader);
}

/// Any number of threads at once: they read the same bytes and come to the same outcome. Only a
/// page that fails is recovered, by one of them.
std::int32_t FetchBatch::check(FetchItem& item) {
  std::int32_t outcome = 0;
  const RowAddress& row = item.row;
  if (row.has_footer && !is_valid_page(page(item), row.page_bytes, row.page)) {
    std::lock_guard lock(recovery_);
    outcome = item.outcome.load(std::memory_order_acquire);
    if (outcome != FetchItem::kUnchecked) return outcome;
    try {
      std::vector<std::byte> bytes(row.page_bytes);
      outcome = pool_.recover_page(row.page, bytes);
      item.recovered = std::move(bytes);
    } catch (const std::bad_alloc&) {
      outcome = -ENOMEM;
    }
  }
  item.outcome.store(outcome, std::memory_order_release);
  return outcome;
}

void FetchBatch::publish_plan() {
  is_planned_.store(true, std::memory_order_release);
  is_planned_.notify_all();
}

}  // namespace tieralloc
