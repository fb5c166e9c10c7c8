// successors.hpp: which rows are looked up beside which, and what that foretells.
//
// For each of a bounded number of rows a few others are remembered that came soon after it, or soon
// before it, in the same sample, and how often they did. While a sample goes on, the rows already
// in it vote for those that came beside them before: these are candidates to be fetched ahead. A
// row is forgotten as RowHistory forgets. Bounded memory, all of it taken at construction; every
// access is O(1). Not for concurrent use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../types.hpp"
#include "row_numbers.hpp"

namespace tieralloc {

/// Rows remembered beside each.
inline constexpr std::size_t kSuccessors = 32;

/// Accesses of a sample that make a pair with the one that follows them.
inline constexpr std::size_t kPairWindow = 16;

/// Raised by whoever changes what the same accesses give.
inline constexpr std::uint32_t kCandidateFeaturesVersion = 1;
inline constexpr std::size_t kCandidateFeatures = 12;

/// What is told of a candidate beside the features of its row, in order.
std::vector<std::string> candidate_feature_names();

/// A row that may come soon, and why.
struct Candidate {
  RowId row;
  std::array<float, kCandidateFeatures> features;
};

class Successors {
 public:
  /// Throws std::invalid_argument for a capacity of 0 rows.
  explicit Successors(std::uint32_t capacity);

  static std::size_t bytes(std::uint32_t capacity);

  /// The accesses that follow are of the next sample.
  void begin_sample();

  /// An access to a row below 2^48. Returns the candidates that it votes for, other than those that
  /// it was just seen beside; they are valid until the next one.
  std::span<const Candidate> observe(RowId row);

  /// The same where nobody asks for candidates, which costs less; it has no vote.
  void learn(RowId row);

  /// Asks for the memory that an access to a row reads first, and then for the rest.
  void prefetch(RowId row) const { known_.prefetch(row); }
  void prefetch_list(RowId row) const;

 private:
  using Number = RowNumbers::Number;

  using Counts = std::array<std::uint8_t, kSuccessors>;

  /// Other rows, which may be forgotten themselves. Searched at every pair: each loop over one of
  /// these arrays is a few vector instructions.
  struct alignas(64) List {
    std::array<std::uint32_t, kSuccessors> row_low{};
    std::array<std::uint32_t, kSuccessors> last{};  ///< access that each came beside
    std::array<std::uint16_t, kSuccessors> row_high{};
    Counts after{};   ///< times each came after
    Counts before{};  ///< times each came before; of an empty entry both are 0

    RowId row(std::size_t i) const { return RowId{row_high[i]} << 32 | row_low[i]; }
    bool is_empty(std::size_t i) const { return after[i] == 0 && before[i] == 0; }
  };

  /// The accesses to the row that has a list, apart from it: forgetting looks at those of many.
  struct Use {
    std::uint32_t last = 0;   ///< access
    std::uint32_t count = 0;  ///< halved whenever the counts of the list are
  };

  /// What all candidates of an access have in common.
  struct Owner {
    float accesses, count, position, gap;
  };

  /// What the rows of this sample said of a candidate.
  struct Vote {
    RowId row = kNoRow;
    std::uint32_t sample = 0;
    std::uint32_t first = 0;  ///< access
    std::uint32_t voters = 0;
    float confidence = 0;  ///< the sum of their shares
    float strongest = 0;
  };

  struct Recent {
    RowId row;
    Number number;
  };

  Number note(RowId row);
  Number number_for(RowId row);
  Number forget_one_for(RowId row);
  void note_pairs(RowId row, Number number);
  void count(List& owner, RowId other, Counts List::* times);
  std::size_t entry_for(List& list, RowId other) const;
  std::size_t rarest(const List& list) const;
  void halve(Number number);
  Vote& vote_for(RowId row);
  Candidate candidate(const Owner& owner, const List& list, std::size_t i);

  RowNumbers known_;
  std::vector<List> lists_;  ///< by number
  std::vector<Use> uses_;    ///< by number
  std::vector<Vote> votes_;  ///< hashed; those of former samples are void
  std::vector<Candidate> candidates_;
  std::array<Recent, kPairWindow> recent_{};  ///< of this sample, a ring
  Number hand_ = 0;                           ///< where forgetting goes on
  std::uint32_t now_ = 0;                     ///< accesses so far
  std::uint32_t sample_ = 0;
  std::uint32_t position_ = 0;  ///< in the sample
};

}  // namespace tieralloc
