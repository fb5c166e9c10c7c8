// access_ring.cpp: accesses on their way from a thread that serves to one that learns.
#include "access_ring.hpp"

#include <random>

#include "check.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

std::vector<RowId> popped(AccessRing& ring) {
  std::vector<RowId> rows;
  ring.pop(rows);
  return rows;
}

TEST(a_ring_gives_back_what_it_took_in_order_and_shifted) {
  AccessRing ring(8);
  const std::vector<RowId> rows{5, 6, 7};
  for (int round = 0; round < 10; ++round) {  // around its end
    ring.push(rows, 100);
    ring.push(std::span(rows).first(1), RowId{0} - 5);
    CHECK(popped(ring) == (std::vector<RowId>{105, 106, 107, 0}));
    CHECK(popped(ring).empty());
  }
  CHECK_EQ(ring.dropped(), 0);
}

TEST(a_full_ring_drops_a_piece_as_a_whole_and_counts_it) {
  AccessRing ring(8);
  const std::vector<RowId> rows{0, 1, 2, 3, 4, 5, 6, 7, 8};
  ring.push(std::span(rows).first(6), 0);
  ring.push(std::span(rows).first(3), 0);
  CHECK_EQ(ring.dropped(), 3);
  ring.push(std::span(rows).first(2), 10);
  CHECK(popped(ring) == (std::vector<RowId>{0, 1, 2, 3, 4, 5, 10, 11}));
  ring.push(rows, 0);  // more than it can ever hold
  CHECK_EQ(ring.dropped(), 12);
  CHECK(popped(ring).empty());
}

TEST(a_reader_beside_the_writer_sees_every_access_once_and_in_order) {
  AccessRing ring(64);
  constexpr RowId kPieces = 20000;
  std::atomic<bool> done{false};
  Threads threads;
  threads.start([&] {
    std::mt19937_64 random(1);
    RowId next = 0;
    for (RowId i = 0; i < kPieces; ++i) {
      std::vector<RowId> piece(random() % 20);
      for (RowId& row : piece) row = next++;
      const std::uint64_t dropped = ring.dropped();
      ring.push(piece, 0);
      if (ring.dropped() != dropped) next -= piece.size();  // come again
    }
    ring.push(std::vector<RowId>{next}, 0);
    done.store(true);
  });
  RowId expected = 0;
  for (bool last = false; !last;) {
    last = done.load();
    for (RowId row : popped(ring)) CHECK_EQ(row, expected++);
  }
  threads.join();
  CHECK(expected > 0);
}

}  // namespace
