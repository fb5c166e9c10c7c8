// row_history.hpp: what was seen of each row, in a bounded number of rows, and features of it.
//
// Accesses are observed in order, sample by sample. Up to a capacity of rows are remembered; then a
// new one takes the place of the one, among the next few in a circle, that was accessed the longest
// ago for each sample that it was in. So rows are remembered that come back rarely, but come back.
// What was known of a forgotten row is lost. Every access is O(1), and nothing of the future is
// known. Not for concurrent use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../types.hpp"
#include "row_features.hpp"
#include "row_numbers.hpp"

namespace tieralloc {

/// Throws std::invalid_argument where lengths of samples do not add up to the rows.
void check_lengths(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);

class RowHistory {
 public:
  /// Table t has the rows from table_starts[t] to table_starts[t + 1]. `contexts` are the numbers
  /// of up to kContexts tables. Throws std::invalid_argument where the starts do not ascend, for
  /// tables that there are not or too many, and for a capacity of 0.
  RowHistory(std::span<const RowId> table_starts, std::uint32_t capacity,
             std::span<const std::uint32_t> contexts = {});

  /// Bytes of memory that one of this capacity takes.
  static std::size_t bytes(std::uint32_t capacity, bool has_contexts);

  /// The accesses that follow are of the next sample.
  void begin_sample();

  /// An access to a row below `rows()`.
  void observe(RowId row);

  /// Samples of these lengths. Throws as `check` does, nothing observed.
  void observe(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);

  /// Throws as check_lengths and check_rows do.
  void check(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths) const;

  /// Writes kRowFeatures features of each row, as things stand after the last access.
  void write_features(std::span<const RowId> rows, float* features) const;

  /// Asks for the memory that the features of a row read first, and then for the rest.
  void prefetch(RowId row) const { known_.prefetch(row); }
  void prefetch_record(RowId row) const { prefetch_numbered(known_.find(row)); }

  RowId rows() const { return table_starts_.back(); }
  std::uint64_t accesses() const { return now_; }
  std::uint32_t size() const { return known_.size(); }

 private:
  using Number = RowNumbers::Number;
  static constexpr Number kUnknown = RowNumbers::kUnknown;

  /// A cache line. Times are the lower halves of access and sample numbers: what matters is how
  /// long ago they were.
  struct alignas(64) Record {
    std::uint32_t last = 0;    ///< access, counted from 1
    std::uint32_t first = 0;   ///< access
    std::uint32_t sample = 0;  ///< of the last access
    std::uint32_t count = 0;
    std::array<float, kHalfLives.size()> decayed{};  ///< as of the last access
    float newcomers = 0;
    std::array<float, kReturns.size()> returns{};
    std::array<std::uint8_t, kGaps> gaps;  ///< coded logs, the latest first
    std::array<std::uint8_t, kGaps> sample_gaps;
    std::uint16_t table = 0;
    std::uint16_t samples = 0;
    std::uint16_t burst = 0;
    std::uint8_t bag_position = 0;
    std::uint8_t sample_position = 0;
  };
  static_assert(sizeof(Record) == 64);

  /// A row of a context table in a sample.
  struct Companion {
    Number number = kUnknown;
    std::uint32_t row = 0;    ///< its lower half, which tells whether the number is still its own
    std::uint32_t count = 0;  ///< its accesses up to that sample
  };

  /// The companions of a sample.
  struct Sample {
    std::uint32_t number = 0;  ///< its lower half
    std::array<Companion, kContexts> companions;
  };

  struct Table {
    float mean_gap = 8;
    float known = 0.5f;
    std::uint32_t context = kContexts;  ///< which context it is; kContexts: none
  };

  static Record blank();
  std::uint32_t age(const Record& record) const;
  void keep_young(Record& record) const;
  Number forget_one_for(RowId row);
  std::uint16_t table_of(RowId row) const;
  void prefetch_numbered(Number number) const;
  const Sample* sample_of(const Record& record) const;
  Number number_of(const Companion& companion) const;
  void note_gap(Record& record, Table& table);
  void note_return(const Record& record);
  void note_context(Number number, const Record& record, bool is_new);
  void write_row(RowId row, Number number, float* features) const;
  void write_own(const Record& record, float* plain, float* logs) const;
  void write_context(const Record& own, const Companion* companion, float* logs, float* gap) const;

  std::vector<RowId> table_starts_;
  std::vector<Table> tables_;
  RowNumbers known_;
  std::vector<Record> records_;  ///< by number
  std::vector<Sample>
      samples_;               ///< the last ones, a ring of them; none where there are no contexts
  Number hand_ = 0;           ///< where forgetting goes on
  std::uint64_t now_ = 0;     ///< accesses so far
  std::uint64_t sample_ = 0;  ///< samples so far: the number of the one that goes on
  std::uint32_t sample_position_ = 0;
  std::uint32_t bag_position_ = 0;
  std::uint32_t last_table_ = ~0u;
  std::uint32_t new_rows_ = 0;  ///< in this sample
  std::array<std::uint32_t, kContexts> new_rows_of_{};
};

}  // namespace tieralloc
