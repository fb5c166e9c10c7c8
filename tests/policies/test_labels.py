"""Labels against a Belady that scans the future for every eviction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieralloc.policies.labels import miss_windows, next_uses, opt_labels

from tieralloc._bindings import belady


def brute_force(accesses, capacity):
    """Which accesses miss, and whose row is there until it is used next."""

    def use_after(row, position):
        rest = accesses[position + 1 :]
        return position + 1 + rest.index(row) if row in rest else len(accesses)

    held, missed, kept = {}, [], [False] * len(accesses)  # by row: its last access
    for position, row in enumerate(accesses):
        missed.append(row not in held)
        if row in held:
            kept[held[row]] = True
        elif len(held) == capacity:
            del held[max(held, key=lambda other: use_after(other, position))]
        held[row] = position
    return missed, kept


streams = st.lists(st.integers(0, 8), max_size=60)


def as_array(accesses):
    return np.array(accesses, dtype=np.uint64)


@given(streams, st.integers(1, 10))
def test_labels_are_what_a_brute_force_belady_does(accesses, capacity):
    labels = opt_labels(as_array(accesses), 9, capacity)
    assert (labels.missed.tolist(), labels.kept.tolist()) == brute_force(accesses, capacity)


@given(streams, st.integers(1, 10))
def test_labels_add_up_to_the_counts_of_opt(accesses, capacity):
    labels = opt_labels(as_array(accesses), 9, capacity)
    counts = belady(as_array(accesses), 9, capacity)
    assert labels.missed.sum() == counts["on_demand_fetches"]
    assert labels.kept.sum() == counts["hits"]


@given(streams)
def test_next_uses_are_the_next_accesses_to_the_row(accesses):
    expected = [
        next((i for i in range(at + 1, len(accesses)) if accesses[i] == row), len(accesses))
        for at, row in enumerate(accesses)
    ]
    assert next_uses(as_array(accesses), 9).tolist() == expected


@given(streams, st.integers(1, 9), st.integers(1, 5), st.integers(1, 9))
def test_windows_hold_each_missed_row_once_in_order(accesses, capacity, chunk, window):
    stream = as_array(accesses)
    missed = opt_labels(stream, 9, capacity).missed
    windows = miss_windows(stream, missed, chunk, window)
    ends = range(chunk, len(accesses) + 1, chunk)
    assert len(windows.offsets) == len(ends) + 1
    for number, end in enumerate(ends):
        coming = range(end, min(end + window, len(accesses)))
        expected = dict.fromkeys(accesses[position] for position in coming if missed[position])
        assert windows.of(number).tolist() == list(expected)


def test_bad_arguments_are_named():
    stream = as_array([0, 5])
    with pytest.raises(IndexError, match=r"access 1: .* expected below 5, got 5"):
        opt_labels(stream, 5, 1)
    with pytest.raises(IndexError, match="got 5"):
        next_uses(stream, 5)
    with pytest.raises(ValueError, match="capacity of at least 1"):
        opt_labels(stream, 6, 0)
    with pytest.raises(ValueError, match="window 0, expected at least 1"):
        miss_windows(stream, np.ones(2, bool), 15, 0)
    with pytest.raises(ValueError, match="labels are of 3 accesses, expected 2"):
        miss_windows(stream, np.ones(3, bool), 15, 15)
