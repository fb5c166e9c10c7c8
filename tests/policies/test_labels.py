"""Labels against a Belady that scans the future for every eviction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieralloc.policies.labels import miss_windows

from tieralloc._bindings import next_uses, opt_labels


def brute_force(accesses, capacity):
    """Return the misses, and the accesses whose row stays until its next use."""

    def use_after(row, position):
        rest = accesses[position + 1 :]
        return position + 1 + rest.index(row) if row in rest else len(accesses)

    last_access, missed, kept = {}, [], [False] * len(accesses)  # last_access: of resident rows
    for position, row in enumerate(accesses):
        missed.append(row not in last_access)
        if row in last_access:
            kept[last_access[row]] = True
        elif len(last_access) == capacity:
            del last_access[max(last_access, key=lambda other: use_after(other, position))]
        last_access[row] = position
    return missed, kept


streams = st.lists(st.integers(0, 8), max_size=60)


def as_array(accesses):
    return np.array(accesses, dtype=np.uint64)


@given(streams, st.integers(1, 10))
def test_opt_labels_match_brute_force_belady(accesses, capacity):
    missed, kept = opt_labels(as_array(accesses), 9, capacity)
    assert (missed.tolist(), kept.tolist()) == brute_force(accesses, capacity)


@given(streams, st.integers(1, 9), st.integers(1, 5), st.integers(1, 9))
def test_miss_windows_hold_each_missed_row_once_in_order(accesses, capacity, chunk, window):
    stream = as_array(accesses)
    missed, _ = opt_labels(stream, 9, capacity)
    windows = miss_windows(stream, missed, chunk, window)
    ends = range(chunk, len(accesses) + 1, chunk)
    assert len(windows.offsets) == len(ends) + 1
    for number, end in enumerate(ends):
        coming = range(end, min(end + window, len(accesses)))
        expected = dict.fromkeys(accesses[position] for position in coming if missed[position])
        found = windows.rows[windows.offsets[number] : windows.offsets[number + 1]]
        assert found.tolist() == list(expected)


def test_labels_invalid_argument_raises():
    stream = as_array([0, 5])
    with pytest.raises(IndexError, match=r"access 1: .* expected below 5, got 5"):
        opt_labels(stream, 5, 1)
    with pytest.raises(IndexError, match="got 5"):
        next_uses(stream, 5)
    with pytest.raises(ValueError, match="capacity of at least 1"):
        opt_labels(stream, 6, 0)
    with pytest.raises(ValueError, match="window: expected at least 1, got 0"):
        miss_windows(stream, np.ones(2, bool), 15, 0)
    with pytest.raises(ValueError, match="missed: expected 2 labels, got 3"):
        miss_windows(stream, np.ones(3, bool), 15, 15)
