"""Candidates to be fetched ahead, where many accesses are observed at a time."""

import numpy as np
import pytest

from tieralloc._core import PREFETCH_HORIZON, Prefetcher, RowHistory

ROWS = 3000
LENGTH = 8


@pytest.fixture(scope="module")
def accesses():
    """Samples whose rows come from few groups: rows foretell each other."""
    rng = np.random.default_rng(3)
    groups = rng.integers(0, ROWS, (150, 20))
    chosen = [rng.choice(groups[rng.integers(150)], LENGTH, replace=False) for _ in range(1000)]
    return np.concatenate(chosen).astype(np.uint64)


def observe(observer, rows):
    observer.observe(rows, np.full(len(rows) // LENGTH, LENGTH, dtype=np.uint32))


def prepared(accesses):
    history = RowHistory(np.array([0, ROWS], dtype=np.uint64), ROWS)
    observe(history, accesses)
    return Prefetcher(ROWS, 0.04), history


def test_of_many_accesses_those_within_the_horizon_of_the_end_have_candidates(accesses):
    at_once, history = prepared(accesses)
    observe(at_once, accesses)
    in_parts, _ = prepared(accesses)
    first = (len(accesses) - PREFETCH_HORIZON) // LENGTH * LENGTH
    for begin in range(0, first, 5 * LENGTH):
        observe(in_parts, accesses[begin : min(begin + 5 * LENGTH, first)])
        in_parts.candidates(history)
    observe(in_parts, accesses[first:])
    rows, features = at_once.candidates(history)
    expected_rows, expected_features = in_parts.candidates(history)
    assert len(rows) > 500
    assert np.array_equal(rows, expected_rows)
    assert np.array_equal(features, expected_features)


def test_only_wanted_candidates_are_given_and_may_be_chosen(accesses):
    everyone, history = prepared(accesses)
    some, _ = prepared(accesses)
    observe(everyone, accesses)
    observe(some, accesses)
    rows, features = everyone.candidates(history)
    asked = []

    def even(candidates):
        asked.append(candidates)
        return candidates % np.uint64(2) == 0

    wanted, wanted_features = some.candidates(history, even)
    assert np.array_equal(asked[0], rows)
    assert np.array_equal(wanted, rows[rows % 2 == 0])
    assert np.array_equal(wanted_features, features[rows % 2 == 0])
    assert set(some.choose(wanted, np.ones(len(wanted), dtype=np.float32))) == set(wanted)


def test_flags_that_do_not_fit_the_candidates_are_refused(accesses):
    prefetcher, history = prepared(accesses)
    observe(prefetcher, accesses)
    with pytest.raises(ValueError, match=r"there are 3 flags, expected [0-9]+"):
        prefetcher.candidates(history, lambda rows: np.ones(3, dtype=bool))
