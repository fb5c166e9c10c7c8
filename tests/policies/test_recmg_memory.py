"""How much recmg remembers: as much as is worth it, or as fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from tieralloc._core import Prefetcher, RowHistory
from tieralloc.policies.recmg.memory import LOGGED, REMEMBERED, Memory


def within(most_bytes, fast_rows=1000, rows=10**6, has_contexts=True, fetches_ahead=True):
    return Memory.within(
        most_bytes,
        fast_rows,
        rows=rows,
        has_contexts=has_contexts,
        fetches_ahead=fetches_ahead,
    )


@given(
    most_bytes=st.integers(1 << 23, 1 << 33),
    fast_rows=st.integers(1, 10**4),
    rows=st.integers(10**4, 10**9),
    has_contexts=st.booleans(),
    fetches_ahead=st.booleans(),
)
def test_it_takes_no_more_than_it_may_and_nearly_all_of_what_helps(most_bytes, **given):
    found, whole = within(most_bytes, **given), within(None, **given)
    assert found.nbytes <= most_bytes
    assert given["fast_rows"] <= found.rows <= whole.rows
    assert found.accesses <= whole.accesses
    assert (found.accesses == 0) == (not given["fetches_ahead"])
    if found != whole:
        assert found.nbytes > most_bytes - 5000


def test_without_a_limit_it_goes_with_the_fast_tier_and_the_tables():
    assert within(None) == Memory(REMEMBERED * 1000, LOGGED * 1000, True)
    assert within(None, rows=1500).rows == 1500
    assert within(None, fetches_ahead=False).accesses == 0
    assert within(None, fast_rows=10**8).accesses == 2**31 - 1


def test_its_bytes_are_those_of_what_is_made():
    memory = within(1 << 21)
    made = RowHistory([0, 10**6], memory.rows, [0]).nbytes + Prefetcher(memory.accesses, 0.1).nbytes
    assert memory.nbytes == made


def test_too_few_bytes_are_refused_with_how_many_it_needs():
    with pytest.raises(ValueError, match=r"policy_bytes is 4096, expected at least \d+ for a fast"):
        within(4096)
