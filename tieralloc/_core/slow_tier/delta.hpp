// delta.hpp: the rows of a delta on their way into a slow pool: all of them, or none.
//
//   stage     rows are kept where no reader finds them
//   commit    they are durable: from now on the pool has the version, also after a crash
//   publish   readers find them
//
// Concurrency: one thread, except `find`. Lookups go on but for `publish`, which excludes them
// (store/delta.hpp).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

struct TableLayout;

/// A part of a delta, before it is staged.
struct DeltaPart {
  const TableLayout* table = nullptr;
  std::uint64_t rows = 0;
};

class StagedDelta {
 public:
  /// Drops a delta that is not committed.
  virtual ~StagedDelta() = default;

  /// Adds a part; the values are dense, null for zeros. Of a repeated row the last value counts.
  /// Throws SystemFailure, changing nothing.
  virtual void stage(const TableLayout& table, std::span<const TableRow> rows,
                     const std::byte* values) = 0;

  /// Once, after the last part. Throws SystemFailure or MemoryShortage: the delta is dropped then.
  virtual void commit(std::uint64_t version) = 0;

  /// Once, after `commit`. Cannot fail.
  virtual void publish() noexcept = 0;

  /// After `publish`: the value of a row by its offset in the pool, at least of the delta's rows;
  /// null for others. Valid as long as the delta lives. Any number of threads.
  virtual const std::byte* find(std::uint64_t offset) const = 0;

  /// Rows and values of a staged part, as the pool has them: `stride` bytes from one value to the
  /// next.
  struct Part {
    const TableLayout* table = nullptr;
    std::span<const TableRow> rows;
    const std::byte* values = nullptr;
    std::size_t stride = 0;
  };
  virtual std::span<const Part> parts() const = 0;
};

}  // namespace tieralloc
