"""Values to load, cut where pages end: nothing is lost, and no page comes in two parts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieralloc._common.page_parts import cut_at_pages


def rows_from(first, count):
    return np.arange(first, first + count, dtype=np.float32)[:, None]


@given(
    lengths=st.lists(st.integers(1, 20), max_size=8),
    rows_per_page=st.integers(1, 10),
    first=st.integers(0, 30),
    beyond=st.integers(0, 10),
)
def test_pieces_are_the_rows_in_whole_pages(lengths, rows_per_page, first, beyond):
    after = first + sum(lengths)
    starts = np.cumsum([first, *lengths[:-1]]).tolist()
    parts = [rows_from(start, n) for start, n in zip(starts, lengths, strict=False)]
    pieces = list(cut_at_pages(iter(parts), rows_per_page, first, after + beyond))
    got = np.concatenate([np.empty((0, 1)), *pieces])
    np.testing.assert_array_equal(got, np.concatenate([np.empty((0, 1)), *parts]))
    ends = np.cumsum([first, *map(len, pieces)])
    assert all(end % rows_per_page == 0 for end in ends[1:-1])
    pages = [(a // rows_per_page, (b - 1) // rows_per_page) for a, b in pairwise(ends)]
    assert all(last < begin for (_, last), (begin, _) in pairwise(pages))


def test_rows_of_a_reused_array_are_kept():
    buffer = np.empty((3, 1), np.float32)

    def parts():
        for first in (0, 3, 6):
            buffer[:] = rows_from(first, 3)
            yield buffer

    pieces = [np.array(piece) for piece in cut_at_pages(parts(), 4, 0, 9)]
    assert [len(piece) for piece in pieces] == [4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(pieces), rows_from(0, 9))


def test_rows_before_an_error_come_first():
    def parts():
        yield rows_from(0, 5)
        raise OSError("the source is gone")

    pieces = cut_at_pages(parts(), 4, 0, 9)
    assert [len(next(pieces)), len(next(pieces))] == [4, 1]
    with pytest.raises(OSError, match="gone"):
        next(pieces)


def test_other_kinds_of_parts_are_kept_as_they_are():
    other = memoryview(bytes(3))
    parts = [rows_from(0, 5), other, rows_from(8, 2).astype(np.float64), rows_from(10, 2)]
    pieces = list(cut_at_pages(iter(parts), 4, 0, 20))
    assert [len(piece) for piece in pieces] == [4, 1, 3, 2, 2]
    assert pieces[2] is other
