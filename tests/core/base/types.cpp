// types.cpp: the three numberings of rows do not mix.
#include "base/types.hpp"

#include <type_traits>
#include <vector>

#include "check.hpp"

namespace {

using namespace tieralloc;

template <typename A, typename B>
concept Addable = requires(A a, B b) { a + b; };

static_assert(!std::is_convertible_v<TableRow, TierRow>);
static_assert(!std::is_convertible_v<TierRow, StoreRow>);
static_assert(!std::is_convertible_v<RowId, TierRow>);
static_assert(!std::is_convertible_v<TierRow, RowId>);
static_assert(Addable<TierRow, TableRow> && Addable<StoreRow, TableRow>);
static_assert(!Addable<TierRow, TierRow> && !Addable<StoreRow, TierRow>);

TEST(row_numbers_convert_by_the_tables_first_row) {
  constexpr TierRow first{40};
  CHECK_EQ((first + TableRow{2}).value, 42);
  CHECK_EQ((TierRow{42} - first).value, 2);
  CHECK_EQ((StoreRow{100} + TableRow{2}).value, 102);
  const std::vector<TierRow> rows{{1}, {5}};
  CHECK_EQ(row_ids(std::span(rows))[1], 5);
}

}  // namespace
