"""The prefetcher against a plain model of it: candidates, choices, trust, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefetcher_oracle import HORIZON, MOST_FETCHES, MOST_PENDING, OCCURRENCES, matrix
from prefetcher_oracle import Prefetcher as Oracle

from tieralloc._core import (
    PREFETCH_HORIZON,
    Prefetcher,
    RowHistory,
    candidate_feature_names,
    row_feature_names,
)

NAMES = candidate_feature_names()
ROW_FEATURES = len(row_feature_names())
MOST_ROWS = 1 << 47


def uint64(rows):
    return np.array(rows, dtype=np.uint64)


def float32(scores):
    return np.array(scores, dtype=np.float32)


def history(capacity=100, rows=MOST_ROWS):
    return RowHistory([0, rows], capacity)


@st.composite
def steps(draw):
    """Samples, some at a time, of rows that come together more or less often."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(2, 90))
    numbers = random.permutation(rows)
    if draw(st.booleans()):
        numbers = random.integers(0, MOST_ROWS, rows)
    group, longest = draw(st.integers(1, 12)), draw(st.sampled_from([1, 4, 20, 60]))
    found = []
    for samples in draw(st.lists(st.integers(0, 8), min_size=1, max_size=6)):
        lengths = random.integers(0, longest + 1, samples)
        groups = random.integers(0, rows, samples).repeat(lengths)
        picked = (groups * group + random.integers(0, group, lengths.sum())) % rows
        found.append((uint64(numbers[picked]), lengths.astype(np.uint32)))
    return found


def check_candidates(prefetcher, oracle, seen):
    """Take candidates of both, which must be the same; return their rows."""
    rows, features = prefetcher.candidates(seen)
    expected = oracle.candidates()
    assert rows.tolist() == list(expected)
    assert features.shape == (len(rows), ROW_FEATURES + len(NAMES))
    if expected:
        np.testing.assert_allclose(features[:, ROW_FEATURES:], matrix(expected, NAMES), atol=0.01)
    np.testing.assert_array_equal(features[:, :ROW_FEATURES], seen.features(rows))
    return rows


@settings(max_examples=200)
@given(
    steps=steps(),
    capacity=st.sampled_from([1, 2, 5, 13, 1000]),
    least=st.sampled_from([0.01, 0.3, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_it_agrees_with_the_model_step_by_step(steps, capacity, least, seed):
    prefetcher, oracle, seen = Prefetcher(capacity, least), Oracle(capacity, least), history()
    random = np.random.default_rng(seed)
    for accesses, lengths in steps:
        prefetcher.observe(accesses, lengths)
        seen.observe(accesses, lengths)
        oracle.observe(accesses.tolist(), lengths.tolist())
        rows = check_candidates(prefetcher, oracle, seen)
        scores = float32(random.integers(0, 9, len(rows)) / 8)  # some of them equal
        chosen = prefetcher.choose(rows, scores)
        assert chosen.tolist() == oracle.choose(rows.tolist(), scores.tolist())
        assert prefetcher.trust == pytest.approx(oracle.trust, abs=1e-4)


def test_only_some_earlier_accesses_are_looked_at():
    """The last ones, in other samples: what came beside a row before these is no candidate."""
    prefetcher, oracle, seen = Prefetcher(1000, 1), Oracle(1000, 1), history()
    samples = [[1, 2], *[[1, 3]] * (OCCURRENCES - 1), [1], [4, 1, 1]]
    found = []
    for sample in samples:
        for side in (prefetcher, seen):
            side.observe(uint64(sample), [len(sample)])
        oracle.observe(sample, [len(sample)])
        found.append(check_candidates(prefetcher, oracle, seen).tolist())
    assert found[-2:] == [[2, 3], [3]]


def test_rows_of_a_sample_that_never_ends_are_candidates_too():
    """More of them than votes, or than can be pending."""
    prefetcher, seen = Prefetcher(40_000, 1), history(20_000)
    rows = np.random.default_rng(0).permutation(20_000).astype(np.uint64) << np.uint64(28)
    for times in range(2):
        for side in (prefetcher, seen):
            side.observe(rows, [len(rows)])
        found, features = prefetcher.candidates(seen)
        assert len(found) <= MOST_PENDING * times
        assert (np.diff(found.astype(np.int64)) > 0).all()
        assert np.isfinite(features).all()
    assert set(found.tolist()) <= set(rows.tolist())
    assert len(found) > 100


def asked(prefetcher, rows, lengths=None):
    prefetcher.observe(uint64(rows), [len(rows)] if lengths is None else lengths)


def after_pairs(least=0.5, pairs=1000):
    """Make a prefetcher that knows of row 2 i + 1 that it comes after row 2 i."""
    prefetcher, seen = Prefetcher(100_000, least), history(2 * pairs)
    for side in (prefetcher, seen):
        side.observe(np.arange(2 * pairs, dtype=np.uint64), [2] * pairs)
    prefetcher.candidates(seen)
    return prefetcher, seen


@pytest.mark.parametrize("asked_after", [1, HORIZON - 1, HORIZON, HORIZON + 1])
def test_a_row_that_was_chosen_is_waited_for_until_it_is_asked_for_or_for_the_horizon(asked_after):
    assert PREFETCH_HORIZON == HORIZON
    prefetcher, seen = after_pairs()

    def candidate():
        """Whether row 1 is one once row 0 was asked for."""
        asked(prefetcher, [0])
        return 1 in prefetcher.candidates(seen)[0]

    assert candidate()
    assert prefetcher.choose(uint64([1]), float32([1])).tolist() == [1]
    trust = prefetcher.trust
    assert trust < 1
    asked(prefetcher, [*range(1000, 1000 + asked_after - 1), 1])
    assert (prefetcher.trust > 0.999) == (asked_after <= HORIZON)
    assert candidate()
    # The wait that is over has nothing to do with one that begins now.
    assert prefetcher.choose(uint64([1]), float32([1])).tolist() == [1]
    asked(prefetcher, range(1000, 1000 + HORIZON - 1))
    assert not candidate()
    assert candidate()


def test_nothing_below_the_least_chance_is_chosen_and_the_best_come_first():
    prefetcher, _ = after_pairs(least=0.25)
    rows, scores = uint64([9, 5, 7, 3, 1]), float32([0.25, 0.5, 0.249, 0.5, 1])
    assert prefetcher.choose(rows, scores).tolist() == [1, 3, 5, 9]


def test_a_model_that_never_keeps_its_promises_goes_quiet_and_may_speak_again():
    prefetcher = Prefetcher(10, 0.04)
    chosen = []
    for step in range(300):
        rows = uint64(range(100 * step + 1000, 100 * step + 1100))
        chosen.append(len(prefetcher.choose(rows, np.full(100, 0.9, dtype=np.float32))))
        asked(prefetcher, [0] * 50)
    assert chosen[0] == 100
    assert chosen[-1] == 0
    assert prefetcher.trust < 0.05
    before = prefetcher.trust
    for _ in range(4):
        asked(prefetcher, [0] * 100_000)
        assert prefetcher.trust > before
        before = prefetcher.trust
    assert before > 0.9
    assert len(prefetcher.choose(uint64([1, 2]), float32([0.9, 0.9]))) == 2


@pytest.mark.parametrize("chance", [0.2, 1.0])
def test_a_model_that_keeps_its_promises_is_trusted(chance):
    prefetcher, random = Prefetcher(10, 0.04), np.random.default_rng(4)
    for step in range(2000):
        rows = np.arange(20, dtype=np.uint64) + np.uint64(100 + 20 * step)
        assert len(prefetcher.choose(rows, np.full(20, chance, dtype=np.float32))) == 20
        asked(prefetcher, random.permutation(rows[random.random(20) < chance]))
        assert prefetcher.trust > 0.8  # chance has its way in the beginning
    assert prefetcher.trust > 0.97


def test_scores_count_for_as_much_less_as_they_promised_too_much():
    """Of four rows with a score of 1, one is asked for: only scores four times the least count."""
    prefetcher = Prefetcher(10, 0.125)
    for step in range(3000):
        rows = uint64(range(100 + 4 * step, 104 + 4 * step))
        prefetcher.choose(rows, np.ones(4, dtype=np.float32))
        asked(prefetcher, rows[:1])
    assert prefetcher.trust == pytest.approx(0.25, abs=0.02)
    rows = uint64([1, 2, 3])
    assert prefetcher.choose(rows, float32([0.4, 0.6, 0.5 / 1.1])).tolist() == [2]


def test_no_more_than_some_thousands_are_waited_for():
    prefetcher = Prefetcher(1, 1e-3)
    for step in range(5):
        rows = np.arange(3000, dtype=np.uint64) + np.uint64(3000 * step)
        found = prefetcher.choose(rows, np.full(3000, 0.1, dtype=np.float32))
        assert len(found) == max(0, min(3000, MOST_FETCHES - 3000 * step))
    asked(prefetcher, [0, 1, 2])
    assert len(prefetcher.choose(uint64(range(20_000, 20_009)), np.ones(9, np.float32))) == 3
    asked(prefetcher, [99_999] * HORIZON)
    assert len(prefetcher.choose(uint64(range(30_000, 30_009)), np.ones(9, np.float32))) == 9


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((0, 0.5), "capacity is 0"),
        ((9, 0.0), "least chance is 0.0"),
        ((9, 1.5), "least chance is 1.5"),
        ((9, float("nan")), "least chance is -?nan"),
    ],
)
def test_bad_arguments_are_named(arguments, told):
    with pytest.raises(ValueError, match=told):
        Prefetcher(*arguments)


def test_what_does_not_fit_is_refused_and_nothing_noted():
    refusing, fresh, seen = *[after_pairs(pairs=5)[0] for _ in range(2)], history()
    with pytest.raises(ValueError, match="sample_lengths add up to 2, expected 3"):
        refusing.observe(uint64([0, 2, 4]), [1, 1])
    with pytest.raises(IndexError, match=f"row {MOST_ROWS}, expected below {MOST_ROWS}"):
        refusing.observe(uint64([0, MOST_ROWS]), [2])
    assert len(refusing.candidates(seen)[0]) == 0
    with pytest.raises(ValueError, match="there are 1 scores, expected 2"):
        refusing.choose(uint64([1, 2]), float32([1]))
    for score in (float("nan"), float("inf"), -0.1, 1.1):
        with pytest.raises(ValueError, match=r"chance of row 2 is .*, expected 0 to 1"):
            refusing.choose(uint64([1, 2]), float32([0.9, score]))
    assert refusing.trust == 1
    for prefetcher in (refusing, fresh):
        asked(prefetcher, [0])
    found, expected = refusing.candidates(seen), fresh.candidates(seen)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    assert found[0].tolist() == [1]


def test_a_history_of_fewer_rows_is_refused():
    prefetcher, _ = after_pairs(pairs=5)
    asked(prefetcher, [2])
    with pytest.raises(IndexError, match="row 3, expected below 3"):
        prefetcher.candidates(history(rows=3))
