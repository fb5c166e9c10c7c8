// row_order.cpp: places of rows against a plain map, for dense, sparse and complete orders.
#include "slow_tier/row_order.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <utility>

#include "check.hpp"
#include "slow_tier/random_order.hpp"

namespace {

using namespace tieralloc;

std::string refusal_of(std::uint64_t rows, const std::vector<std::uint64_t>& arranged,
                       const std::vector<std::uint32_t>& lengths) {
  try {
    const RowOrder order("item", rows, 4, arranged, lengths);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(ranked_bits_count_as_a_vector_does) {
  std::mt19937_64 random(3);
  for (const std::uint64_t bits : {1, 31, 480, 481, 5000}) {
    RankedBits ranked(bits);
    std::vector<bool> model(bits);
    for (std::uint64_t bit = 0; bit < bits; ++bit) {
      if (random() % 3 != 0) continue;
      ranked.set(bit);
      model[bit] = true;
    }
    CHECK_EQ(ranked.count(), static_cast<std::uint64_t>(std::count(model.begin(), model.end(), 1)));
    std::uint64_t ones = 0;
    for (std::uint64_t bit = 0; bit < bits; ++bit) {
      CHECK_EQ(ranked.rank(bit), ones);
      CHECK_EQ(ranked[bit], model[bit]);
      ones += model[bit];
    }
  }
}

TEST(row_set_takes_the_smallest_form_and_counts_members) {
  std::mt19937_64 random(5);
  // A member per 2, per 30 and per 3000 rows: bits, low bytes of 8 and of 16 bits.
  for (const std::uint64_t per_member : {2, 30, 3000}) {
    const std::uint64_t rows = 300'000;
    std::set<std::uint64_t> members{0, rows - 1};
    while (members.size() < rows / per_member) members.insert(random() % rows);
    const RowSet set(rows, std::vector<std::uint64_t>(members.begin(), members.end()));
    std::uint64_t below = 0;
    for (std::uint64_t row = 0; row < rows; ++row) {
      const RowSet::Position position = set.find(row);
      CHECK_EQ(position.is_member, members.contains(row));
      CHECK_EQ(position.members_below, below);
      below += position.is_member;
    }
    const double bits =
        8.0 * static_cast<double>(set.bytes()) / static_cast<double>(members.size());
    CHECK(bits < (per_member == 2 ? 2.2 : per_member == 30 ? 12.5 : 18));
  }
}

TEST(order_gives_each_row_a_place_of_its_own) {
  std::mt19937_64 random(7);
  for (std::size_t i = 0; i < 200; ++i) {
    const std::uint64_t rows = 1 + random() % (i % 10 == 0 ? 40'000 : 300);
    const auto rows_per_page = static_cast<std::uint32_t>(1 + random() % 20);
    const RandomOrder chosen(rows, rows_per_page, random);
    const RowOrder order("item", rows, rows_per_page, chosen.arranged, chosen.lengths);
    CHECK_EQ(order.num_rows(), chosen.arranged.size());
    CHECK_EQ(order.num_pages(), chosen.lengths.size());

    // Rows share a page of the order if and only if they share one of the choice.
    std::map<std::uint64_t, std::set<std::uint64_t>> pages;
    std::vector<std::uint64_t> others;
    for (std::uint64_t row = 0; row < rows; ++row) {
      const RowOrder::Place at = order.find(row);
      if (at.is_arranged) {
        CHECK(at.place < order.rows_in(at.page));
        CHECK_EQ(at.place, pages[at.page].size());  // rows ascend in a page
        pages[at.page].insert(row);
      } else {
        CHECK_EQ(at.place, others.size());
        CHECK_EQ(order.other_row(at.place), row);
        others.push_back(row);
      }
    }
    std::set<std::set<std::uint64_t>> chosen_pages, found_pages;
    for (std::size_t page = 0, at = 0; page < chosen.lengths.size(); at += chosen.lengths[page++]) {
      const auto first = chosen.arranged.begin() + static_cast<std::ptrdiff_t>(at);
      chosen_pages.insert({first, first + chosen.lengths[page]});
    }
    std::vector<std::uint64_t> in_order;
    for (const auto& [page, members] : pages) {
      found_pages.insert(members);
      in_order.insert(in_order.end(), members.begin(), members.end());
    }
    CHECK(found_pages == chosen_pages);
    CHECK(order.arranged() == in_order);
    CHECK_EQ(others.size() + in_order.size(), rows);
  }
}

TEST(order_of_many_rows_takes_two_bytes_each) {
  std::mt19937_64 random(9);
  std::vector<std::uint64_t> arranged(36'000);
  std::iota(arranged.begin(), arranged.end(), 0);
  std::shuffle(arranged.begin(), arranged.end(), random);
  const std::vector<std::uint32_t> lengths(2400, 15);
  const RowOrder order("item", 40'000, 15, arranged, lengths);
  CHECK(order.bytes() < 36'000 * 2);
}

TEST(order_that_is_no_permutation_is_refused_by_its_first_offence) {
  CHECK_EQ(refusal_of(10, {1, 2, 3}, {2, 1}), "");
  CHECK_EQ(refusal_of(10, {}, {}), "");
  CHECK_EQ(refusal_of(10, {1, 2, 3, 2, 1}, {2, 3}),
           "order: table 'item': page 1 has row 1 again; expected each row once");
  CHECK_EQ(refusal_of(10, {1, 10, 11}, {3}),
           "order: table 'item': page 0 has row 10; expected rows 0 to 9");
  CHECK_EQ(refusal_of(10, {1, 2, 3, 4, 5}, {5}),
           "order: table 'item': page 0 has 5 rows; expected 1 to 4");
  CHECK_EQ(refusal_of(10, {1, 2}, {2, 0}),
           "order: table 'item': page 1 has 0 rows; expected 1 to 4");
  CHECK_EQ(refusal_of(10, {1, 2, 3}, {2}),
           "order: table 'item': the pages have 2 rows; expected 3, the arranged ones");
}

}  // namespace
