"""Samples of candidates for prefetching: what was known, what came of them, how many there are."""

import numpy as np
import pytest
from prefetcher_oracle import Successors, matrix

from tieralloc._core import RowHistory, candidate_feature_names, row_feature_names

NAMES = candidate_feature_names()
ROW_FEATURES = len(row_feature_names())
ROWS, LENGTH, ACCESSES = 60, 4, 2400
NOT_AGAIN = 2**32 - 1


def stream(seed=0):
    """Samples of rows that come together more often than not."""
    random = np.random.default_rng(seed)
    groups = random.integers(0, ROWS // LENGTH, ACCESSES // LENGTH).repeat(LENGTH)
    rows = (groups * LENGTH + random.integers(0, LENGTH + 2, ACCESSES)) % ROWS
    return rows.astype(np.uint64), np.full(ACCESSES // LENGTH, LENGTH, dtype=np.uint32)


def history(capacity=ROWS):
    return RowHistory(np.arange(ROWS + 1), capacity)  # each row is a table, which tells it


def draw(count=500, logged=ACCESSES, first=400, seed=1, capacity=ROWS, samples=None):
    accesses, lengths = stream() if samples is None else samples
    return history(capacity).draw_candidates(
        accesses, lengths, first=first, count=count, logged=logged, seed=seed
    )


@pytest.mark.parametrize("logged", [ACCESSES, 101])
def test_each_is_a_candidate_of_its_moment_and_says_when_it_came(logged):
    accesses, _ = stream()
    features, times, distances = draw(logged=logged)
    successors, moments = Successors(logged), []
    for sample in accesses.reshape(-1, LENGTH).tolist():
        successors.begin_sample()
        moments += [dict(successors.observe(row)) for row in sample]
    rows = features[:, 0].astype(int)
    for row, found, time, distance in zip(rows, features, times, distances, strict=True):
        candidates = moments[time - 1]
        expected = matrix({row: candidates[row]}, NAMES)[0]
        np.testing.assert_allclose(found[ROW_FEATURES:], expected, atol=0.01)
        coming = np.flatnonzero(accesses[time:] == row)
        assert distance == (coming[0] + 1 if len(coming) else NOT_AGAIN)
    assert (distances == NOT_AGAIN).any()
    assert len(features) > 100


def test_features_of_the_row_are_those_of_the_history():
    features, times, _ = draw(capacity=20)
    accesses, lengths = stream()
    known, done = history(20), 0
    for found, time in zip(features, times, strict=True):
        if time % LENGTH == 0:  # cut where the samples are cut
            known.observe(accesses[done:time], lengths[done // LENGTH : time // LENGTH])
            done = int(time)
            expected = known.features(found[:1].astype(np.uint64))[0]
            np.testing.assert_array_equal(found[:ROW_FEATURES], expected)
    assert done > ACCESSES / 2


def test_there_are_never_more_than_wanted_and_they_are_spread_evenly():
    for count in (0, 1, 100, 500):
        _, times, _ = draw(count)
        # The last of them may come due where there is no candidate.
        assert count - 3 <= len(times) <= count
        assert (np.diff(times.astype(int)) >= 0).all()
        due = count * (times.astype(int) - 400) / (ACCESSES - 400)
        assert (np.arange(1, len(due) + 1) <= due).all()
        quarters = np.bincount((times - 401) // 500, minlength=4)
        assert (abs(quarters - count / 4) <= 3).all()
    assert 1000 < len(draw(10**6)[1]) < 10**6  # there are no more


def test_what_was_accessed_long_ago_is_drawn_more_often():
    age = row_feature_names().index("age")
    ages = 2.0 ** draw(10**6)[0][:, age] - 1
    successors, all_ages, last = Successors(ACCESSES), [], {}
    for at, row in enumerate(stream()[0].tolist()):
        if at % LENGTH == 0:
            successors.begin_sample()
        last[row] = at
        all_ages += [at - last[other] for other, _ in successors.observe(row) if at >= 400]
    drawn, there = (np.histogram(of, bins=[0, 4, 64, 3000])[0] for of in (ages, all_ages))
    shares = drawn / there
    assert shares[0] < shares[1] < shares[2] < 0.36


def test_drawing_depends_on_the_seed_alone():
    first, again, other = draw(seed=5), draw(seed=5), draw(seed=6)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[2], other[2])


def test_samples_of_single_rows_give_no_candidates():
    accesses, _ = stream()
    features, times, distances = draw(samples=(accesses, np.ones(ACCESSES, dtype=np.uint32)))
    assert features.shape == (0, ROW_FEATURES + len(NAMES))
    assert times.shape == distances.shape == (0,)


def test_what_does_not_fit_is_refused_and_nothing_noted():
    known = history()
    for arguments, error, told in (
        ({"logged": 0}, ValueError, "capacity is 0"),
        ({"first": 2}, ValueError, "first is 2, expected below 2"),
        ({"sample_lengths": [1]}, ValueError, "sample_lengths add up to 1, expected 2"),
        ({"rows": np.array([1, 60], dtype=np.uint64)}, IndexError, "row 60, expected below 60"),
    ):
        good = {"rows": np.array([1, 2], dtype=np.uint64), "sample_lengths": [2]}
        with pytest.raises(error, match=told):
            known.draw_candidates(**{**good, "first": 0, "count": 9, "logged": 9, **arguments})
    assert known.accesses == 0
