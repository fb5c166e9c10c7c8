// successors.hpp: which rows are looked up beside which, and what that foretells.
//
// Candidates to be fetched ahead are the rows that came beside the row accessed now when it was
// accessed before, in earlier samples that a SampleLog still has: soon after it, or soon before it.
// While a sample goes on, its rows vote for those that they name. Bounded memory, all of it taken
// at construction; an access is O(1), and costs next to nothing where nobody asks for candidates.
// Not for concurrent use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../types.hpp"
#include "sample_log.hpp"

namespace tieralloc {

/// Candidates that an access names, at most.
inline constexpr std::size_t kSuccessors = 32;

/// Accesses of a sample that are beside one: so many before it, and so many after it.
inline constexpr std::size_t kPairWindow = 16;

/// Earlier accesses to a row that are looked at.
inline constexpr std::uint32_t kOccurrences = 32;

/// Raised by whoever changes what the same accesses give.
inline constexpr std::uint32_t kCandidateFeaturesVersion = 3;
inline constexpr std::size_t kCandidateFeatures = 13;

/// What is told of a candidate beside the features of its row, in order.
std::vector<std::string> candidate_feature_names();

/// A row that may come soon, and why.
struct Candidate {
  RowId row;
  std::array<float, kCandidateFeatures> features;
};

class Successors {
 public:
  /// Looks back over `capacity` accesses; throws as SampleLog does.
  explicit Successors(std::uint32_t capacity);

  static std::size_t bytes(std::uint32_t capacity);

  /// The accesses that follow are of the next sample.
  void begin_sample();

  /// An access to a row below kMostLoggedRows. Returns the candidates that it votes for, other than
  /// those that it was just seen beside; they are valid until the next one.
  std::span<const Candidate> observe(RowId row);

  /// The same where nobody asks for candidates; it has no vote.
  void learn(RowId row);

  /// Asks for the memory that an access to a row reads first, and then for the rest.
  void prefetch(RowId row) const { log_.prefetch(row); }
  void prefetch_earlier(RowId row) const { log_.prefetch_earlier(row); }

 private:
  using Age = SampleLog::Age;

  /// A row that came beside the one accessed now.
  struct Beside {
    RowId row;
    Age age;  ///< of the latest access to the latter that it came beside
    std::uint32_t after = 0, before = 0;  ///< times

    std::uint32_t times() const { return after + before; }
  };

  /// What all candidates of an access have in common.
  struct Owner {
    float accesses, count, gap, span, position;
  };

  /// What the rows of this sample said of a candidate.
  struct Vote {
    RowId row = kNoRow;
    std::uint32_t sample = 0;
    std::uint32_t voters = 0;
    std::uint64_t first = 0;  ///< access
    float confidence = 0;     ///< the sum of their shares
    float strongest = 0;
  };

  /// Where a row is among those beside, while `access` is the one that goes on.
  struct Place {
    std::uint64_t access = 0;
    std::uint32_t at = 0;
  };

  Owner look_back();
  void gather_beside(Age age);
  Beside& beside(RowId row, Age age);
  void exclude_seen();
  void keep_best();
  Vote& vote_for(RowId row);
  Candidate candidate(const Owner& owner, const Beside& beside);

  SampleLog log_;
  std::vector<Beside> beside_;  ///< of the access that goes on; first those that are no candidates
  std::size_t excluded_ = 0;    ///< how many these are
  std::vector<Place> places_;   ///< hashed
  std::vector<std::uint32_t> order_;
  std::vector<Vote> votes_;  ///< hashed; those of former samples are void
  std::vector<Candidate> candidates_;
  std::uint64_t now_ = 0;  ///< accesses so far
  std::uint32_t sample_ = 0;
  std::uint32_t position_ = 0;  ///< accesses of the sample
};

}  // namespace tieralloc
