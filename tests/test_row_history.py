"""The row history against a plain model of it, and what it refuses."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_history_oracle import Oracle

from tieralloc._core import MOST_CONTEXTS, RowHistory, next_uses, row_feature_names

NAMES = row_feature_names()
STARTS = [0, 12, 12, 20, 40]  # one table is empty


def uint64(rows):
    return np.array(rows, dtype=np.uint64)


@st.composite
def streams(draw):
    """Pieces of samples, the rows of which are of one table after another as in a trace."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    favourites = draw(st.integers(1, STARTS[-1]))
    pieces = []
    for samples in draw(st.lists(st.integers(0, 60), min_size=1, max_size=4)):
        lengths = random.integers(0, draw(st.integers(1, 12)) + 1, samples)
        rows = random.integers(0, favourites, lengths.sum())
        if draw(st.booleans()):
            rows = random.permutation(STARTS[-1])[rows]
        cuts = np.cumsum(lengths)[:-1]
        ordered = [np.sort(sample) for sample in np.split(rows, cuts)] if samples else []
        pieces.append((uint64(np.concatenate([[], *ordered])), lengths.astype(np.uint32)))
    return pieces


def check_close(found, expected, names=NAMES):
    """Gaps are remembered to a tenth of an octave."""
    coarse = np.array(["gap" in name and name not in ("table_gap", "mean_gap") for name in names])
    np.testing.assert_allclose(found[:, coarse], expected[:, coarse], atol=0.06)
    np.testing.assert_allclose(found[:, ~coarse], expected[:, ~coarse], atol=0.02)


@settings(max_examples=60, deadline=None)
@given(
    pieces=streams(),
    capacity=st.sampled_from([1, 2, 7, 20, 40, 1000]),
    contexts=st.sampled_from([(), (0,), (2, 0), (3, 0, 2), (1, 0, 3, 2)]),
)
def test_features_are_those_of_the_model(pieces, capacity, contexts):
    history, oracle = RowHistory(STARTS, capacity, contexts), Oracle(STARTS, capacity, contexts)
    rows = uint64(np.arange(STARTS[-1]))
    for accesses, lengths in pieces:
        history.observe(accesses, lengths)
        oracle.observe(accesses.tolist(), lengths.tolist())
        found, expected = history.features(rows), oracle.matrix(rows.tolist(), NAMES)
        # A quarter as many samples are remembered as rows: a context may be lost before a row is.
        lost = np.array([name.startswith("context") for name in NAMES])
        if capacity < 1000 and contexts:
            found, expected = found[:, ~lost], expected[:, ~lost]
            check_close(found, expected, np.array(NAMES)[~lost])
        else:
            check_close(found, expected)
        assert history.size == len(oracle.rows) <= capacity
    assert history.accesses == sum(len(accesses) for accesses, _ in pieces)


def test_what_long_ago_means_is_in_the_model_too():
    """Ages and decay over more accesses than hypothesis draws."""
    random = np.random.default_rng(5)
    history, oracle = RowHistory(STARTS, 99, (0, 3)), Oracle(STARTS, 99, (0, 3))
    for quiet in (300, 9000, 2000):
        rows = np.sort(random.integers(0, 40, (5, 8)), axis=1).ravel()
        accesses = uint64([*rows, *[0] * quiet])
        lengths = np.array([8] * 5 + [quiet], dtype=np.uint32)
        history.observe(accesses, lengths)
        oracle.observe(accesses.tolist(), lengths.tolist())
    rows = uint64(np.arange(40))
    expected = oracle.matrix(rows.tolist(), NAMES)
    check_close(history.features(rows), expected)
    assert expected[:, NAMES.index("context_0_returns_8192")].max() > -1


def test_rows_of_one_call_are_of_one_sample_unless_said_otherwise():
    apart, together = RowHistory([0, 9], 9), RowHistory([0, 9], 9)
    apart.observe(uint64([1, 2, 1]), [2, 1])
    together.observe(uint64([1, 2, 1]))
    burst = NAMES.index("burst")
    assert apart.features(uint64([1]))[0, burst] == pytest.approx(1, abs=0.01)
    assert together.features(uint64([1]))[0, burst] == pytest.approx(np.log2(3), abs=0.01)


def test_memory_is_bounded_and_taken_at_once():
    history = RowHistory([0, 1 << 40], 1000)
    before = history.nbytes
    assert before <= 128 * 1000
    history.observe(np.random.default_rng(0).integers(0, 1 << 40, 20000).astype(np.uint64))
    assert (history.size, history.nbytes) == (1000, before)


def test_features_go_where_they_are_wanted():
    history = RowHistory([0, 9], 9)
    history.observe(uint64([3, 3]))
    out = np.zeros((2, len(NAMES)), dtype=np.float32)
    assert history.features(uint64([3, 4]), out=out) is out
    assert (out == history.features(uint64([3, 4]))).all()
    assert history.features(uint64([])).shape == (0, len(NAMES))
    for wrong in (out[:1], out.astype(np.float64), out[:, :-1].copy()):
        with pytest.raises(ValueError, match=r"out has shape|Buffer dtype"):
            history.features(uint64([3, 4]), out=wrong)


def test_samples_are_of_the_past_and_say_what_came():
    random = np.random.default_rng(1)
    accesses = random.integers(0, 40, 3000).astype(np.uint64)
    lengths = np.full(500, 6, dtype=np.uint32)
    features, times, distances = RowHistory(STARTS, 40, (0,)).draw_samples(
        accesses, lengths, first=1000, count=1500, seed=3
    )
    following = next_uses(accesses, 40).astype(np.int64)
    history, age = RowHistory(STARTS, 40, (0,)), NAMES.index("age")
    done = 0
    for row, time, distance in zip(features[::50], times[::50], distances[::50], strict=True):
        if time % 6:  # cut where the samples are cut
            continue
        history.observe(accesses[done:time], lengths[done // 6 : time // 6])
        done = int(time)
        last = time - 1 - round(2 ** float(row[age]) - 1)
        assert (history.features(accesses[[last]]) == row).all()
        assert distance == (following[last] - (time - 1) if following[last] < 3000 else 2**32 - 1)
    assert done > 2000
    assert times[0] > 1000
    assert np.bincount((times - 1001) // 500).tolist() == [375] * 4  # spread evenly
    ages = np.log2(1 + np.round(2.0 ** features[:, age] - 1))
    assert 0.2 < np.mean(ages < 2) < 0.8


def test_drawing_depends_on_the_seed_alone():
    accesses = uint64([*range(40)] * 20)
    draws = [
        RowHistory(STARTS, 40).draw_samples(accesses, [800], first=0, count=700, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert (draws[0][0] == draws[1][0]).all()
    assert not (draws[0][2] == draws[2][2]).all()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (([0, 9], 0), "capacity is 0"),
        (([0], 5), "do not ascend, or are not of 1 to 65535 tables"),
        (([0, 9, 5], 5), "do not ascend"),
        (([0, 9], 5, [1]), "context table is 1, expected below 1"),
        (([0, 9], 5, [0] * (MOST_CONTEXTS + 1)), f"expected at most {MOST_CONTEXTS}"),
    ],
)
def test_bad_arguments_are_named(arguments, told):
    with pytest.raises(ValueError, match=told):
        RowHistory(*arguments)


def test_what_does_not_fit_is_refused_and_nothing_noted():
    history = RowHistory([0, 9], 9)
    with pytest.raises(ValueError, match="sample_lengths add up to 2, expected 3"):
        history.observe(uint64([1, 2, 3]), [1, 1])
    with pytest.raises(IndexError, match="row 9, expected below 9"):
        history.observe(uint64([1, 9]))
    with pytest.raises(IndexError, match="row 9, expected below 9"):
        history.features(uint64([9]))
    with pytest.raises(ValueError, match="first is 2, expected below 2"):
        history.draw_samples(uint64([1, 2]), [2], first=2, count=1)
    assert (history.accesses, history.size) == (0, 0)


def test_two_threads_do_not_share_a_history():
    history = RowHistory([0, 1000], 1000)
    rows = np.arange(1000).repeat(3000).astype(np.uint64)
    refused, stop = [], threading.Event()

    def features():
        while not stop.is_set():
            try:
                history.features(rows[:1])
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=features)
    thread.start()
    while not refused:
        try:
            history.observe(rows)
        except RuntimeError as error:
            refused.append(str(error))
    stop.set()
    thread.join()
    assert refused[0] == "this history is used by another thread"
