#include "training_samples.hpp"

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "../belady.hpp"
#include "../split_mix.hpp"

namespace tieralloc {
namespace {

/// Log-uniform in 0 … below-1.
std::uint64_t draw_age(SplitMix64& random, std::uint64_t below) {
  constexpr std::uint32_t kSteps = 1u << 31;
  const double uniform = (random.below(kSteps) + 0.5) / kSteps;
  const auto age = static_cast<std::uint64_t>(std::exp(uniform * std::log(below + 1.0))) - 1;
  return age < below ? age : below - 1;
}

}  // namespace

void draw_training_samples(RowHistory& history, std::span<const RowId> rows,
                           std::span<const std::uint32_t> sample_lengths, std::size_t first,
                           std::uint64_t seed, const TrainingSamples& samples) {
  history.check(rows, sample_lengths);
  if (first >= rows.size()) {
    throw std::invalid_argument("first is " + std::to_string(first) + ", expected below " +
                                std::to_string(rows.size()));
  }
  std::vector<std::uint32_t> next(rows.size());
  next_uses(rows, history.rows(), next);
  std::vector<std::uint32_t> last(history.rows());  // access to each row
  SplitMix64 random(seed);
  const std::size_t room = samples.times.size();
  std::size_t drawn = 0;
  std::size_t at = 0;
  for (const std::uint32_t length : sample_lengths) {
    history.begin_sample();
    for (const std::size_t end = at + length; at < end; ++at) {
      history.observe(rows[at]);
      last[rows[at]] = static_cast<std::uint32_t>(at);
      if (at < first) continue;
      const std::size_t due = static_cast<std::size_t>(static_cast<unsigned __int128>(room) *
                                                       (at + 1 - first) / (rows.size() - first));
      for (; drawn < due; ++drawn) {
        const RowId row = rows[at - draw_age(random, at + 1)];
        history.write_features({&row, 1}, &samples.features[drawn * kRowFeatures]);
        samples.times[drawn] = static_cast<std::uint32_t>(at + 1);
        const std::uint32_t use = next[last[row]];
        samples.distances[drawn] =
            use == rows.size() ? kNotAgain : use - static_cast<std::uint32_t>(at);
      }
    }
  }
}

}  // namespace tieralloc
