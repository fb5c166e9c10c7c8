// row_loops.cpp: the loops of each instruction set of this processor, against plain ones.
#include "kernels/row_loops.hpp"

#include <random>
#include <vector>

#include "check.hpp"

// As row_loops.cpp defines them.
namespace tieralloc {
namespace baseline {
extern const RowLoops kRowLoops;
}
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define X86_VARIANTS 1
namespace avx2 {
extern const RowLoops kRowLoops;
}
namespace avx512 {
extern const RowLoops kRowLoops;
}
#endif
}  // namespace tieralloc

namespace {

using namespace tieralloc;

std::vector<const RowLoops*> variants() {
  std::vector<const RowLoops*> list{&row_loops(), &baseline::kRowLoops};
#ifdef X86_VARIANTS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) list.push_back(&avx2::kRowLoops);
  if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    list.push_back(&avx512::kRowLoops);
  }
#endif
  return list;
}

/// Mostly within a table of `rows` rows, now and then just outside or far from it.
template <typename Index>
std::vector<Index> some_indices(std::size_t n, std::uint64_t rows, std::mt19937_64& random) {
  std::vector<Index> indices(n);
  for (Index& index : indices) {
    switch (random() % 8) {
      case 0:
        index = static_cast<Index>(rows + random() % 2);
        break;
      case 1:
        index = static_cast<Index>(-1 - static_cast<std::int64_t>(random() % 3));
        break;
      case 2:
        index = static_cast<Index>(random());
        break;
      default:
        index = static_cast<Index>(random() % rows);
    }
  }
  return indices;
}

template <typename Index, typename Count, typename Number>
void check_numbers(Count count_outside, Number number, std::size_t n, std::mt19937_64& random) {
  const std::uint64_t rows = 1 + random() % 1000;
  const RowId first = random() % (RowId{1} << 40);
  const auto indices = some_indices<Index>(n, rows, random);
  std::vector<RowId> numbered(n);
  number(indices.data(), n, rows, first, numbered.data());
  std::uint64_t outside = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t index = indices[i];
    const bool within = index >= 0 && static_cast<std::uint64_t>(index) < rows;
    outside += !within;
    CHECK_EQ(numbered[i], first + (within ? static_cast<RowId>(index) : 0));
  }
  CHECK_EQ(count_outside(indices.data(), n, rows), outside);
}

TEST(index_outside_its_table_is_counted_and_becomes_row_0) {
  std::mt19937_64 random(1);
  for (const RowLoops* loops : variants()) {
    for (std::size_t n = 0; n < 100; ++n) {
      check_numbers<std::int64_t>(loops->count_outside_64, loops->number_64, n, random);
      check_numbers<std::int32_t>(loops->count_outside_32, loops->number_32, n, random);
    }
  }
}

TEST(entries_locate_their_slots) {
  std::mt19937_64 random(2);
  std::vector<std::byte> slots(1);
  for (const RowLoops* loops : variants()) {
    for (std::size_t n = 0; n < 100; ++n) {
      const std::size_t stride = 64 * (1 + random() % 100);
      std::vector<Entry> entries(n);
      Entry flags = 0;
      std::size_t found = 0;
      for (Entry& entry : entries) {
        if (random() % 4 != 0) {
          entry = make_entry(static_cast<Slot>(random() % kMaxSlots), random() % 2 == 0);
          entry |= random() % 2 == 0 ? kSaturatedFlag : 0;
        }
        flags |= entry;
        found += entry != kAbsent;
      }
      std::vector<const std::byte*> addresses(n);
      const RowLoops::Located located =
          loops->locate(entries.data(), n, slots.data(), stride, addresses.data());
      CHECK_EQ(located.flags, flags);
      CHECK_EQ(located.found, found);
      for (std::size_t i = 0; i < n; ++i) {
        const auto address = reinterpret_cast<std::uintptr_t>(addresses[i]);
        const auto base = reinterpret_cast<std::uintptr_t>(slots.data());
        CHECK_EQ(address, entries[i] == kAbsent ? 0 : base + slot_of(entries[i]) * stride);
      }
    }
  }
}

}  // namespace
