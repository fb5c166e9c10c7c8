#include "store/access_samples.hpp"

#include "store/access_ring.hpp"

namespace tieralloc {
namespace {

struct Bag {
  const std::uint64_t* rows;
  std::uint32_t length;
};

/// Reads the chunks of one call from the front of `words`: its bags, table after table. Returns how
/// many tables there are.
std::size_t take_call(std::span<const std::uint64_t>& words, std::vector<Bag>& bags) {
  std::size_t parts = 0;
  bags.clear();
  do {
    const ChunkHead head = ChunkHead::of(words[0]);
    if (head.has(ChunkHead::kBeginsPart)) ++parts;
    const std::uint64_t* rows = words.data() + 1;
    const std::uint64_t* lengths = rows + head.rows;
    for (std::uint32_t bag = 0; bag < head.bags(); ++bag) {
      const std::uint32_t length =
          head.has(ChunkHead::kOneRowEach)
              ? 1
              : static_cast<std::uint32_t>(lengths[bag / 2] >> (bag % 2 * 32));
      bags.push_back({rows, length});
      rows += length;
    }
    words = words.subspan(1 + head.rows + head.length_words());
  } while (!words.empty() && !ChunkHead::of(words[0]).has(ChunkHead::kBeginsCall));
  return parts;
}

}  // namespace

void AccessSamples::append(const AccessSamples& other) {
  rows.insert(rows.end(), other.rows.begin(), other.rows.end());
  lengths.insert(lengths.end(), other.lengths.begin(), other.lengths.end());
}

void AccessSamples::append(std::span<const std::uint64_t> words) {
  std::vector<Bag> bags;
  while (!words.empty()) {
    const std::size_t parts = take_call(words, bags);
    const std::size_t samples = bags.size() / parts;
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
