"""Synthetic traces: the histogram that they are fitted to, and what each knob does."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_strategies import bags_of_trace, traces

from tieralloc.tools.simulate import simulate
from tieralloc.trace import (
    META_REUSE_SHARES,
    REUSE_BIN_EDGES,
    generate,
    reuse_histogram,
    scaled_reuse_shares,
)

SMALL = {"num_samples": 4096, "num_tables": 4}
NO_SESSIONS = {"session_length": 1, "session_reuse": 0, "topic_affinity": 0}


@pytest.fixture(scope="module")
def default_trace():
    return generate()


def meta_shares():
    return np.array(META_REUSE_SHARES) / sum(META_REUSE_SHARES)


def target(trace):
    bags_filled = (trace.lengths > 0).sum(axis=1).max()
    return scaled_reuse_shares(trace.num_lookups, int(bags_filled))


@given(traces(max_length=30, max_rows=3))
def test_reuse_histogram_is_the_share_of_accesses_by_how_often_their_row_is_accessed(trace):
    counts = Counter(trace.accesses().tolist())
    expected = [0.0] * len(META_REUSE_SHARES)
    for count in counts.values():
        above = max(bin_ for bin_, edge in enumerate(REUSE_BIN_EDGES) if edge < count)
        expected[above] += count / trace.num_lookups
    assert reuse_histogram(trace) == pytest.approx(expected)


def test_the_default_trace_has_the_reuse_histogram_that_meta_publishes(default_trace):
    assert 400_000 <= default_trace.num_lookups <= 1_000_000
    assert reuse_histogram(default_trace) == pytest.approx(meta_shares(), abs=0.001)


@pytest.mark.parametrize(
    "knobs",
    [
        SMALL,
        {"num_tables": 1, "num_samples": 30_000},
        {"num_tables": 50, "num_samples": 1000},
        {"num_tables": 26, "num_samples": 10_000, "mean_pooling_factor": 1},
        {**SMALL, **NO_SESSIONS, "drift": 0},
        {**SMALL, "session_reuse": 0.9, "drift": 1, "topic_affinity": 1},
    ],
)
def test_other_traces_have_it_as_far_as_their_scale_allows(knobs):
    trace = generate(**knobs)
    assert reuse_histogram(trace) == pytest.approx(target(trace), abs=0.01)


def test_another_histogram_may_be_asked_for():
    shares = [0.0] * 16
    shares[1] = shares[3] = 2.0  # Rows accessed twice, and five to eight times.
    trace = generate(**SMALL, reuse_shares=shares)
    expected = [0, 0.5, 0, 0.5, *[0] * 12]
    assert reuse_histogram(trace) == pytest.approx(expected, abs=0.002)


@given(st.integers(0, 10**6), st.integers(1, 10**5))
def test_bins_that_cannot_exist_leave_their_shares_to_lower_ones(num_lookups, max_count):
    scaled = scaled_reuse_shares(num_lookups, max_count)
    assert scaled.sum() == pytest.approx(1)
    assert (np.cumsum(scaled) >= np.cumsum(meta_shares()) - 1e-9).all()
    for bin_ in range(1, 16):
        least = REUSE_BIN_EDGES[bin_] + 1
        assert scaled[bin_] == 0 or least <= min(max_count, round(scaled[bin_] * num_lookups))


def test_at_full_scale_nothing_is_scaled():
    assert scaled_reuse_shares(887_000_000, 65_536) == pytest.approx(meta_shares())


@settings(deadline=None)
@given(
    num_tables=st.integers(1, 5),
    num_samples=st.integers(1, 300),
    mean_pooling_factor=st.floats(0.01, 20),
    session_length=st.floats(1, 1000),
    session_reuse=st.floats(0, 0.99),
    topic_affinity=st.floats(0, 1),
    drift=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_whatever_the_knobs_the_trace_is_of_the_shape_asked_for(**knobs):
    trace = generate(**knobs)  # Whose construction checks every index.
    assert trace.lengths.shape == (knobs["num_tables"], knobs["num_samples"])
    touched = [len({i for bag in table for i in bag}) for table in bags_of_trace(trace)]
    assert trace.num_embeddings.tolist() == [2 * max(rows, 1) for rows in touched]


def test_the_same_seed_makes_the_same_trace_and_another_another():
    first, again, other = (generate(**SMALL, seed=seed) for seed in (7, 7, 8))
    assert bags_of_trace(first) == bags_of_trace(again)
    assert bags_of_trace(first) != bags_of_trace(other)


def test_bags_have_the_mean_pooling_factors_asked_for():
    factors = [0.2, 1.0, 3.0, 12.5]
    trace = generate(num_samples=4096, num_tables=4, mean_pooling_factor=factors)
    assert trace.lengths.mean(axis=1) == pytest.approx(factors, rel=0.1)
    assert trace.lengths[0].max() == 1
    assert trace.lengths[3].min() == 1


def test_one_mean_pooling_factor_is_the_mean_of_tables_that_differ(default_trace):
    factors = default_trace.lengths.mean(axis=1)
    assert factors.mean() == pytest.approx(2.5, rel=0.05)
    assert factors.max() / factors.min() == pytest.approx(16, rel=0.1)


def test_a_bag_seldom_holds_a_row_twice(default_trace):
    bag = np.repeat(np.arange(default_trace.lengths.size), default_trace.lengths.ravel())
    distinct = len(np.unique(bag * default_trace.num_embeddings.max() + default_trace.indices))
    assert distinct > 0.98 * default_trace.num_lookups


def test_row_numbers_say_nothing_of_popularity_as_after_hashing(default_trace):
    accesses = default_trace.accesses().view(np.int64)
    counts = np.bincount(accesses, minlength=int(default_trace.num_embeddings.sum()))
    for first, rows in zip(default_trace.first_rows, default_trace.num_embeddings, strict=True):
        if rows > 10_000:
            of_table = np.minimum(counts[first : first + rows], 16)
            assert abs(np.corrcoef(np.arange(rows), of_table)[0, 1]) < 0.03
            assert (of_table[: rows // 2] > 0).mean() == pytest.approx(0.5, abs=0.05)


def test_tables_have_as_many_rows_as_asked_for():
    assert generate(**SMALL, num_embeddings=200_001).num_embeddings.sum() == 200_001
    sizes = [3000, 40_000, 7000, 20_000]
    assert generate(**SMALL, num_embeddings=sizes).num_embeddings.tolist() == sizes


def test_the_popular_rows_go_to_tables_of_few_rows():
    factors, sizes = [4, 4, 4, 4], [500, 8000, 8000, 8000]
    trace = generate(**SMALL, mean_pooling_factor=factors, num_embeddings=sizes)
    assert reuse_histogram(trace) == pytest.approx(target(trace), abs=0.01)
    touched = [len({i for bag in table for i in bag}) for table in bags_of_trace(trace)]
    lookups_of_a_row = trace.lengths.sum(axis=1) / touched
    assert lookups_of_a_row[0] > 1.5 * lookups_of_a_row[1:].max()


def seldom(accesses):
    """Which accesses are to rows of 3 to 64 accesses: popular ones recur without a reason."""
    counts = np.bincount(accesses)[accesses]
    return (counts >= 3) & (counts <= 64)


def reuse_within(accesses, distance):
    """Share of the repeated accesses to rows seldom accessed that are at most so far apart."""
    accesses = accesses.view(np.int64)
    position = np.flatnonzero(seldom(accesses))
    order = np.argsort(accesses[position], kind="stable")
    again = np.diff(accesses[position][order]) == 0
    return (np.diff(position[order])[again] <= distance).mean()


def recurring_pairs(trace):
    """Share of the pairs of rows side by side in a sample that are so in another sample too."""
    accesses = trace.accesses().view(np.int64)
    sample = np.repeat(np.arange(trace.num_samples), trace.lengths.sum(axis=0))
    counted = seldom(accesses)
    accesses, sample = accesses[counted], sample[counted]
    side_by_side = np.flatnonzero(sample[1:] == sample[:-1])
    pairs = np.sort(np.stack([accesses[side_by_side], accesses[side_by_side + 1]]), axis=0)
    _, times = np.unique(pairs, axis=1, return_counts=True)
    return times[times > 1].sum() / times.sum()


def shared_by_halves(trace):
    """How much of their popularity the two halves of a trace have in common, from 0 to 1."""
    accesses = trace.accesses().view(np.int64)
    half = len(accesses) // 2
    rows = int(trace.num_embeddings.sum())
    before, after = (
        np.bincount(part, minlength=rows) / len(part) for part in (accesses[:half], accesses[half:])
    )
    return np.minimum(before, after).sum()


@pytest.mark.parametrize("seed", [0, 1])
def test_in_sessions_rows_recur_soon_and_together(seed):
    trace = generate(**SMALL, drift=0, seed=seed)
    without = generate(**SMALL, **NO_SESSIONS, drift=0, seed=seed)
    soon, soon_without = (reuse_within(t.accesses(), 500) for t in (trace, without))
    assert soon > soon_without + 0.1
    assert recurring_pairs(trace) > 2 * recurring_pairs(without)


def test_the_more_a_session_reuses_the_sooner_rows_recur():
    shares = [
        reuse_within(generate(**SMALL, session_reuse=reuse).accesses(), 500)
        for reuse in (0, 0.3, 0.6, 0.9)
    ]
    assert (np.diff(shares) > 0.05).all()


def test_the_closer_sessions_keep_to_topics_the_more_rows_recur_together():
    knobs = {**SMALL, "session_reuse": 0, "drift": 0}
    pairs = [recurring_pairs(generate(**knobs, topic_affinity=share)) for share in (0, 0.8, 1)]
    assert pairs[1] > 1.5 * pairs[0]
    assert pairs[2] > 1.5 * pairs[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_drift_makes_the_halves_of_a_trace_differ(seed):
    shared = [shared_by_halves(generate(**SMALL, drift=drift, seed=seed)) for drift in (0, 0.5, 1)]
    assert (np.diff(shared) < -0.08).all()


def test_without_sessions_topics_and_drift_nothing_is_left_but_popularity():
    trace = generate(**SMALL, **NO_SESSIONS, drift=0)
    # The same accesses in random order have no structure but that.
    shuffled = np.random.default_rng(0).permutation(trace.accesses())
    by_chance = reuse_within(shuffled, 500)
    assert reuse_within(trace.accesses(), 500) == pytest.approx(by_chance, abs=0.02)


def test_the_default_trace_is_neither_all_hits_nor_all_compulsory_misses(default_trace):
    records = simulate(default_trace, ["lru", "opt"], [0.01, 0.05, 0.2])
    lru, opt = (
        np.array([r["miss_ratio"] for r in records if r["policy"] == policy])
        for policy in ("lru", "opt")
    )
    assert (lru - opt > 0.05).all()
    assert lru[0] > 0.35 > lru[1] > 0.25 > lru[2] > 0.15
    assert opt[2] > 0.07  # What no fast tier can avoid: rows never accessed before.


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_tables": 0}, "num_tables is 0, expected at least 1"),
        ({"num_samples": 0}, "num_samples is 0, expected at least 1"),
        ({"mean_pooling_factor": 0}, "mean_pooling_factor is 0, expected above 0"),
        ({"mean_pooling_factor": [1, 2, 3]}, "mean_pooling_factor has 3 values, expected 8"),
        ({"mean_pooling_factor": float("nan")}, "mean_pooling_factor is nan"),
        ({"session_length": 0.5}, r"session_length is 0\.5, expected at least 1"),
        ({"session_reuse": 1}, "session_reuse is 1, expected at least 0 and below 1"),
        ({"topic_affinity": 1.5}, r"topic_affinity is 1\.5, expected 0 to 1"),
        ({"drift": -0.1}, r"drift is -0\.1, expected 0 to 1"),
        ({"reuse_shares": [1.0]}, r"reuse_shares have shape \(1,\)"),
        ({"reuse_shares": [-1.0] + [1.0] * 15}, "expected none below 0"),
        ({"num_embeddings": 5}, "num_embeddings is 5, expected at least"),
        ({"num_embeddings": [1000] * 7}, "expected at least 1 for each of 8 tables"),
        ({"num_embeddings": [9] * 8}, "expected at least about"),
    ],
)
def test_a_knob_out_of_its_range_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"num_samples": 100, **knobs})
