"""Synthetic traces: the reuse histogram, and the effect of each parameter."""

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


def expected_histogram(trace):
    max_count = (trace.lengths > 0).sum(axis=1).max()
    return scaled_reuse_shares(trace.num_lookups, int(max_count))


@given(traces(max_length=30, max_rows=3))
def test_reuse_histogram_equals_naive_count(trace):
    counts = Counter(trace.accesses().tolist())
    expected = [0.0] * len(META_REUSE_SHARES)
    for count in counts.values():
        row_bin = max(bin_ for bin_, edge in enumerate(REUSE_BIN_EDGES) if edge < count)
        expected[row_bin] += count / trace.num_lookups
    assert reuse_histogram(trace) == pytest.approx(expected)


def test_generate_default_has_reuse_histogram_of_meta(default_trace):
    assert 400_000 <= default_trace.num_lookups <= 1_000_000
    assert reuse_histogram(default_trace) == pytest.approx(meta_shares(), abs=0.001)


@pytest.mark.parametrize(
    "parameters",
    [
        SMALL,
        {"num_tables": 1, "num_samples": 30_000},
        {"num_tables": 50, "num_samples": 1000},
        {"num_tables": 26, "num_samples": 10_000, "mean_pooling_factor": 1},
        {**SMALL, **NO_SESSIONS, "drift": 0},
        {**SMALL, "session_reuse": 0.9, "drift": 1, "topic_affinity": 1},
    ],
)
def test_generate_small_has_scaled_reuse_histogram(parameters):
    trace = generate(**parameters)
    assert reuse_histogram(trace) == pytest.approx(expected_histogram(trace), abs=0.01)


def test_generate_has_requested_reuse_histogram():
    shares = [0.0] * 16
    shares[1] = shares[3] = 2.0  # rows with 2 and with 5 to 8 accesses
    trace = generate(**SMALL, reuse_shares=shares)
    expected = [0, 0.5, 0, 0.5, *[0] * 12]
    assert reuse_histogram(trace) == pytest.approx(expected, abs=0.002)


@given(st.integers(0, 10**6), st.integers(1, 10**5))
def test_scaled_shares_move_impossible_bins_down(num_lookups, max_count):
    scaled = scaled_reuse_shares(num_lookups, max_count)
    assert scaled.sum() == pytest.approx(1)
    assert (np.cumsum(scaled) >= np.cumsum(meta_shares()) - 1e-9).all()
    for bin_ in range(1, 16):
        min_count = REUSE_BIN_EDGES[bin_] + 1
        assert scaled[bin_] == 0 or min_count <= min(max_count, round(scaled[bin_] * num_lookups))


def test_scaled_shares_at_full_scale_equal_meta():
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
def test_generate_any_parameters_has_requested_shape(**parameters):
    trace = generate(**parameters)  # Trace checks every index
    assert trace.lengths.shape == (parameters["num_tables"], parameters["num_samples"])
    distinct = [len({i for bag in table for i in bag}) for table in bags_of_trace(trace)]
    assert trace.num_embeddings.tolist() == [2 * max(rows, 1) for rows in distinct]


def test_generate_depends_on_seed_only():
    first, repeated, other = (generate(**SMALL, seed=seed) for seed in (7, 7, 8))
    assert bags_of_trace(first) == bags_of_trace(repeated)
    assert bags_of_trace(first) != bags_of_trace(other)


def test_generate_has_requested_mean_pooling_factors():
    factors = [0.2, 1.0, 3.0, 12.5]
    trace = generate(num_samples=4096, num_tables=4, mean_pooling_factor=factors)
    assert trace.lengths.mean(axis=1) == pytest.approx(factors, rel=0.1)
    assert trace.lengths[0].max() == 1
    assert trace.lengths[3].min() == 1


def test_generate_one_pooling_factor_is_mean_over_tables(default_trace):
    factors = default_trace.lengths.mean(axis=1)
    assert factors.mean() == pytest.approx(2.5, rel=0.05)
    assert factors.max() / factors.min() == pytest.approx(16, rel=0.1)


def test_generate_rarely_repeats_rows_in_a_bag(default_trace):
    bag = np.repeat(np.arange(default_trace.lengths.size), default_trace.lengths.ravel())
    distinct = len(np.unique(bag * default_trace.num_embeddings.max() + default_trace.indices))
    assert distinct > 0.98 * default_trace.num_lookups


def test_generate_numbers_rows_independently_of_popularity(default_trace):
    accesses = default_trace.accesses().view(np.int64)
    counts = np.bincount(accesses, minlength=int(default_trace.num_embeddings.sum()))
    for first, rows in zip(default_trace.first_rows, default_trace.num_embeddings, strict=True):
        if rows > 10_000:
            table_counts = np.minimum(counts[first : first + rows], 16)
            assert abs(np.corrcoef(np.arange(rows), table_counts)[0, 1]) < 0.03
            assert (table_counts[: rows // 2] > 0).mean() == pytest.approx(0.5, abs=0.05)


def test_generate_has_requested_num_embeddings():
    assert generate(**SMALL, num_embeddings=200_001).num_embeddings.sum() == 200_001
    sizes = [3000, 40_000, 7000, 20_000]
    assert generate(**SMALL, num_embeddings=sizes).num_embeddings.tolist() == sizes


def test_generate_small_table_has_popular_rows():
    factors, sizes = [4, 4, 4, 4], [500, 8000, 8000, 8000]
    trace = generate(**SMALL, mean_pooling_factor=factors, num_embeddings=sizes)
    assert reuse_histogram(trace) == pytest.approx(expected_histogram(trace), abs=0.01)
    distinct = [len({i for bag in table for i in bag}) for table in bags_of_trace(trace)]
    lookups_per_row = trace.lengths.sum(axis=1) / distinct
    assert lookups_per_row[0] > 1.5 * lookups_per_row[1:].max()


def has_rare_row(accesses):
    """Mark accesses to rows with 3 to 64 accesses; popular rows recur even at random."""
    counts = np.bincount(accesses)[accesses]
    return (counts >= 3) & (counts <= 64)


def reuse_within(accesses, distance):
    """Return the share of reuse distances of rare rows up to `distance`."""
    accesses = accesses.view(np.int64)
    position = np.flatnonzero(has_rare_row(accesses))
    order = np.argsort(accesses[position], kind="stable")
    is_same_row = np.diff(accesses[position][order]) == 0
    return (np.diff(position[order])[is_same_row] <= distance).mean()


def recurring_pairs(trace):
    """Return the share of adjacent pairs of rare rows in a sample that recur in another one."""
    accesses = trace.accesses().view(np.int64)
    sample = np.repeat(np.arange(trace.num_samples), trace.lengths.sum(axis=0))
    is_rare = has_rare_row(accesses)
    accesses, sample = accesses[is_rare], sample[is_rare]
    adjacent = np.flatnonzero(sample[1:] == sample[:-1])
    pairs = np.sort(np.stack([accesses[adjacent], accesses[adjacent + 1]]), axis=0)
    _, counts = np.unique(pairs, axis=1, return_counts=True)
    return counts[counts > 1].sum() / counts.sum()


def overlap_of_halves(trace):
    """Return the overlap of the row frequencies of a trace's halves, 0 to 1."""
    accesses = trace.accesses().view(np.int64)
    half = len(accesses) // 2
    rows = int(trace.num_embeddings.sum())
    before, after = (
        np.bincount(part, minlength=rows) / len(part) for part in (accesses[:half], accesses[half:])
    )
    return np.minimum(before, after).sum()


@pytest.mark.parametrize("seed", [0, 1])
def test_generate_with_sessions_rows_recur_soon_and_together(seed):
    trace = generate(**SMALL, drift=0, seed=seed)
    baseline = generate(**SMALL, **NO_SESSIONS, drift=0, seed=seed)
    reuse, baseline_reuse = (reuse_within(t.accesses(), 500) for t in (trace, baseline))
    assert reuse > baseline_reuse + 0.1
    assert recurring_pairs(trace) > 2 * recurring_pairs(baseline)


def test_generate_more_session_reuse_shortens_reuse_distances():
    shares = [
        reuse_within(generate(**SMALL, session_reuse=reuse).accesses(), 500)
        for reuse in (0, 0.3, 0.6, 0.9)
    ]
    assert (np.diff(shares) > 0.05).all()


def test_generate_more_topic_affinity_gives_recurring_pairs():
    options = {**SMALL, "session_reuse": 0, "drift": 0}
    pairs = [recurring_pairs(generate(**options, topic_affinity=share)) for share in (0, 0.8, 1)]
    assert pairs[1] > 1.5 * pairs[0]
    assert pairs[2] > 1.5 * pairs[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_generate_drift_lowers_overlap_of_halves(seed):
    overlap = [
        overlap_of_halves(generate(**SMALL, drift=drift, seed=seed)) for drift in (0, 0.5, 1)
    ]
    assert (np.diff(overlap) < -0.08).all()


def test_generate_without_structure_reuses_like_random_order():
    trace = generate(**SMALL, **NO_SESSIONS, drift=0)
    shuffled = np.random.default_rng(0).permutation(trace.accesses())
    random_reuse = reuse_within(shuffled, 500)
    assert reuse_within(trace.accesses(), 500) == pytest.approx(random_reuse, abs=0.02)


def test_generate_default_has_room_between_lru_and_opt(default_trace):
    records = simulate(default_trace, ["lru", "opt"], [0.01, 0.05, 0.2])
    lru, opt = (
        np.array([r["miss_ratio"] for r in records if r["policy"] == policy])
        for policy in ("lru", "opt")
    )
    assert (lru - opt > 0.05).all()
    assert lru[0] > 0.35 > lru[1] > 0.25 > lru[2] > 0.15
    assert opt[2] > 0.07  # compulsory misses


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_tables": 0}, "num_tables: expected at least 1, got 0"),
        ({"num_samples": 0}, "num_samples: expected at least 1, got 0"),
        ({"mean_pooling_factor": 0}, "mean_pooling_factor: expected finite .* got 0"),
        ({"mean_pooling_factor": [1, 2, 3]}, "mean_pooling_factor: expected 8 values, .* got 3"),
        ({"mean_pooling_factor": float("nan")}, "mean_pooling_factor: .* got nan"),
        ({"session_length": 0.5}, r"session_length: expected at least 1, got 0\.5"),
        ({"session_reuse": 1}, "session_reuse: expected at least 0 and below 1, got 1"),
        ({"topic_affinity": 1.5}, r"topic_affinity: expected 0 to 1, got 1\.5"),
        ({"drift": -0.1}, r"drift: expected 0 to 1, got -0\.1"),
        ({"reuse_shares": [1.0]}, r"reuse_shares: .* got \(1,\)"),
        ({"reuse_shares": [-1.0] + [1.0] * 15}, "reuse_shares: expected non-negative"),
        ({"num_embeddings": 5}, "num_embeddings: expected at least .* got 5"),
        ({"num_embeddings": [1000] * 7}, "expected at least 1 for each of 8 tables"),
        ({"num_embeddings": [9] * 8}, "num_embeddings: too few .* expected at least about"),
    ],
)
def test_generate_invalid_parameter_raises(parameters, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"num_samples": 100, **parameters})
