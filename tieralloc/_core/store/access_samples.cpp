// access_samples.cpp: transposes calls from table by table to sample by sample.
#include "store/access_samples.hpp"

#include "store/access_ring.hpp"

namespace tieralloc {
namespace {

struct Bag {
  const std::uint64_t* rows;
  std::uint32_t length;
};

/// Removes the first call from `words`. Fills `bags` with its bags, table by table; returns the
/// number of tables.
std::size_t take_call(std::span<const std::uint64_t>& words, std::vector<Bag>& bags) {
  std::size_t segments = 0;
  bags.clear();
  do {
    const BatchHeader header = BatchHeader::of(words[0]);
    if (header.has(BatchHeader::kBeginsSegment)) ++segments;
    const std::uint64_t* rows = words.data() + 1;
    const std::uint64_t* lengths = rows + header.rows;
    for (std::uint32_t bag = 0; bag < header.bags(); ++bag) {
      const std::uint32_t length =
          header.has(BatchHeader::kOneRowEach)
              ? 1
              : static_cast<std::uint32_t>(lengths[bag / 2] >> (bag % 2 * 32));
      bags.push_back({rows, length});
      rows += length;
    }
    words = words.subspan(1 + header.rows + header.length_words());
  } while (!words.empty() && !BatchHeader::of(words[0]).has(BatchHeader::kBeginsCall));
  return segments;
}

}  // namespace

void AccessSamples::append(std::span<const std::uint64_t> words) {
  std::vector<Bag> bags;
  while (!words.empty()) {
    const std::size_t segments = take_call(words, bags);
    const std::size_t samples = bags.size() / segments;
    for (std::size_t sample = 0; sample < samples; ++sample) {
      std::uint32_t length = 0;
      for (std::size_t bag = sample; bag < bags.size(); bag += samples) {
        rows.insert(rows.end(), bags[bag].rows, bags[bag].rows + bags[bag].length);
        length += bags[bag].length;
      }
      lengths.push_back(length);
    }
  }
}

}  // namespace tieralloc
