"""Training samples, against a naive search of the accesses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieralloc._bindings import MAX_CONTEXTS, draw_row_samples, row_feature_names

NEVER_AGAIN = 2**32 - 1
STARTS = [0, 5, 12]
TABLE, AGE = (row_feature_names().index(name) for name in ("table", "age"))


def uint64(values):
    return np.array(values, dtype=np.uint64)


def draw(accesses, lengths=None, **options):
    lengths = [len(accesses)] if lengths is None else lengths
    options = {"remembered": 1000, "first": 0, "count": 30, **options}
    return draw_row_samples(uint64(accesses), lengths, STARTS, **options)


def times_of(num_accesses, first, count):
    """Return the number of accesses before each sample: evenly spread."""
    times = []
    for access in range(first, num_accesses):
        num_samples = count * (access + 1 - first) // (num_accesses - first)
        times += [access + 1] * (num_samples - len(times))
    return times


def distance_of(accesses, row, time):
    for position in range(time, len(accesses)):
        if accesses[position] == row:
            return position - (time - 1)
    return NEVER_AGAIN


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=20).filter(any),
    data=st.data(),
    seed=st.integers(0, 5),
    count=st.integers(0, 60),
)
def test_samples_match_a_naive_search(lengths, data, seed, count):
    n = sum(lengths)
    accesses = data.draw(st.lists(st.integers(0, 11), min_size=n, max_size=n))
    first = data.draw(st.integers(0, n - 1))
    features, times, distances = draw(accesses, lengths, first=first, count=count, seed=seed)
    assert features.shape == (count, len(row_feature_names()))
    assert times.tolist() == times_of(n, first, count)
    for row_features, time, distance in zip(features, times.tolist(), distances, strict=True):
        last = time - 1 - round(2.0 ** float(row_features[AGE]) - 1)  # access of the sampled row
        row = accesses[last]
        assert row not in accesses[last + 1 : time]
        assert row_features[TABLE] == (row >= 5)
        assert distance == distance_of(accesses, row, time)


def test_samples_have_ages_of_all_octaves():
    rows = np.arange(1 << 12)
    features, _, _ = draw_row_samples(
        uint64(rows), [len(rows)], [0, len(rows)], remembered=1 << 16, first=4000, count=3000
    )
    octaves = np.bincount(features[:, AGE].astype(int), minlength=12)[:12]
    assert octaves.min() > 0.7 * 3000 / 12
    assert octaves.max() < 1.3 * 3000 / 12


def test_samples_depend_on_seed_only():
    accesses = list(range(12)) * 20
    one, same, other = (draw(accesses, count=200, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[2], other[2])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"first": 3}, ValueError, "first: expected below 3, got 3"),
        ({"remembered": 0}, ValueError, "remembered: expected at least 1"),
        ({"contexts": [2]}, ValueError, "contexts: expected tables below 2, got 2"),
        ({"contexts": [0] * (MAX_CONTEXTS + 1)}, ValueError, "contexts: expected at most"),
        ({"lengths": [1]}, ValueError, "1.*3|3.*1"),
        ({"accesses": [0, 1, 12]}, IndexError, "12"),
    ],
)
def test_draw_invalid_arguments_raises(options, error, message):
    with pytest.raises(error, match=message):
        draw(**{"accesses": [0, 1, 2], **options})
