// log_delta.hpp: a delta in the redo log.
//
// Its frames lie one behind the other in the active segment, each with the number of the first, and
// end with a commit, which has the version. Its rows get into the segment's index when they are
// published. Replay does the same: rows without a commit are dropped.
//
// If a commit cannot be synced, a withdrawal follows it. A crash before that is durable may leave
// the delta, as a whole.
//
// A segment keeps the version of its last delta; the superblock gets it when the segment ends, as
// the pages have the rows then.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "slow_tier/delta.hpp"
#include "slow_tier/file/redo_log.hpp"

namespace tieralloc {

class LogDelta final : public StagedDelta {
 public:
  using PositionOf = std::function<std::uint32_t(const TableLayout& table)>;

  /// Bytes in the log.
  static std::uint64_t bytes_of(std::span<const DeltaPart> parts);

  /// Requires a log that is not full of `bytes_of`. `appending` keeps other updates out of the log
  /// as long as the delta lives: `find` needs no lock. Throws SystemFailure or MemoryShortage.
  LogDelta(RedoLog& log, std::unique_lock<std::mutex> appending, std::span<const DeltaPart> parts,
           PositionOf position_of);

  void stage(const TableLayout& table, std::span<const TableRow> rows,
             const std::byte* values) override;
  void commit(std::uint64_t version) override;
  void publish() noexcept override;
  const std::byte* find(std::uint64_t offset) const override { return generation_.find(offset); }
  std::span<const Part> parts() const override { return parts_; }

 private:
  void put_rows(LogIndex& index) const;
  std::size_t num_rows() const;

  RedoLog& log_;
  const std::unique_lock<std::mutex> appending_;
  const PositionOf position_of_;
  LogGeneration& generation_;
  const std::uint64_t first_frame_;
  std::vector<Part> parts_;
  std::optional<LogIndex> index_;  ///< of the segment with the delta, if that has many rows
  std::uint64_t version_ = 0;
};

/// Adds the rows of deltas to a segment that is replayed.
class DeltaReplay {
 public:
  using AddRows =
      std::function<void(const FrameHeader& header, std::uint64_t at, const std::byte* frame)>;
  explicit DeltaReplay(AddRows add_rows) : add_rows_(std::move(add_rows)) {}

  /// Before the frame is replayed otherwise.
  void visit(const FrameHeader& header, std::uint64_t at, const std::byte* frame);
  /// After the last frame. Returns the version of the last delta; 0: there is none.
  std::uint64_t end();

 private:
  struct Frame {
    FrameHeader header;
    std::uint64_t at = 0;
    const std::byte* bytes = nullptr;
  };
  void apply();

  const AddRows add_rows_;
  std::vector<Frame> frames_;
  std::optional<FrameHeader> commit_;
  std::uint64_t version_ = 0;
};

}  // namespace tieralloc
