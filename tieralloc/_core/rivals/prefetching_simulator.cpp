#include "prefetching_simulator.hpp"

#include <utility>

#include "../learn/row_history.hpp"

namespace tieralloc {
namespace {

Found find(const Simulator& simulator, RowId row) {
  if (!simulator.is_resident(row)) return Found::on_demand;
  return simulator.awaits_use(row) ? Found::prefetched : Found::resident;
}

}  // namespace

PrefetchingSimulator::PrefetchingSimulator(std::unique_ptr<EvictionPolicy> policy,
                                           std::uint32_t capacity, std::uint64_t rows,
                                           std::uint64_t count_from, std::uint64_t prefetch_lag,
                                           std::shared_ptr<RowPrefetcher> prefetcher)
    : rows_(rows),
      prefetcher_(std::move(prefetcher)),
      simulator_(std::move(policy), capacity, rows, count_from, prefetch_lag) {
  simulator_.on_eviction([this](RowId row) { prefetcher_->evicted(row); });
}

void PrefetchingSimulator::run(std::span<const RowId> rows,
                               std::span<const std::uint32_t> sample_lengths) {
  check_lengths(rows, sample_lengths);
  check_rows(rows, rows_);
  std::size_t at = 0;
  for (const std::uint32_t length : sample_lengths) {
    prefetcher_->begin_sample();
    for (const std::size_t end = at + length; at < end; ++at) {
      simulator_.land_due();
      const Found found = find(simulator_, rows[at]);
      simulator_.run(rows.subspan(at, 1));
      ahead_.clear();
      prefetcher_->observe(rows[at], found, ahead_);
      simulator_.prefetch(ahead_);
    }
  }
}

}  // namespace tieralloc
