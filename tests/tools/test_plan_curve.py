"""Miss ratio curves of a plan, compared with the simulator and a replay; their samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_strategies import traces

from tieralloc._bindings import rows_per_page
from tieralloc.order import pages_of_rows
from tieralloc.tools.plan.curve import SLICES, Curve, Workload, unthinned
from tieralloc.tools.plan.sampling import page_slice
from tieralloc.tools.replay.replay import replay
from tieralloc.tools.simulate import simulate
from tieralloc.trace import Trace, generate
from tieralloc.trace.stream import Stream, count_distinct, fast_rows

FRACTIONS = (0.02, 0.1, 0.4)


def capacities_of(trace, fractions=FRACTIONS):
    distinct = count_distinct(trace.accesses(), int(trace.num_embeddings.sum()))
    return [fast_rows(fraction, distinct) for fraction in fractions]


@pytest.mark.parametrize("policy", ["lru", "s3fifo", "clock"])
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_points_without_sampling_match_simulate(trace, policy, batch_size):
    workload = Workload.of(trace, batch_size, 16, "float32", 0.0)
    points = Curve(workload, policy, 0.01).points(capacities_of(trace))
    expected = simulate(trace, [policy], FRACTIONS, 0.0, batch_size=batch_size, embedding_dim=16)
    for point, record in zip(points, expected, strict=True):
        assert (point.sample_rate, point.miss_ratio_error) == (1, 0)
        assert point.miss_ratio == record["miss_ratio"]
        assert point.reads.sum() == record["on_demand_device_reads"]
        assert len(point.reads) == record["calls"]
        assert point.reads_per_call == pytest.approx(record["device_reads_per_request"])


def test_points_match_a_replay(trace, tmp_path):
    workload = Workload.of(trace, 16, 16, "float32", 0.5)
    (point,) = Curve(workload, "s3fifo", 0.01).points(capacities_of(trace, [0.1]))
    (record,) = replay(
        trace, ["s3fifo"], [0.1], embedding_dim=16, batch_size=16, directory=tmp_path
    )
    assert point.miss_ratio == record["miss_ratio"]
    assert point.reads_per_call == record["device_reads_per_request"]


@given(traces(max_rows=40, max_samples=12), st.integers(1, 3), st.integers(0, 5))
def test_page_slices_partition_the_accesses(trace, halvings, seed):
    stream, pages = Stream.of(trace), pages_of_rows(trace, 4)
    slices = [page_slice(stream, pages, halvings, n, seed) for n in range(2**halvings)]
    lengths = sum(each.stream.lengths.astype(int) for each in slices)
    np.testing.assert_array_equal(lengths, stream.lengths)
    rows = stream.accesses.astype(int)
    assert sum(each.stream.rows for each in slices) == len(np.unique(rows))
    assert sum(len(np.unique(each.pages)) for each in slices) == len(np.unique(pages[rows]))


def test_page_slice_numbers_rows_and_pages_consecutively():
    trace = generate(num_samples=300, num_tables=3)
    stream, pages = Stream.of(trace), pages_of_rows(trace, 4)
    slices = [page_slice(stream, pages, 1, number, 0) for number in range(2)]
    for number, part in enumerate(slices):
        other = slices[1 - number].stream
        assert part.stream.accesses.max() + 1 == part.stream.rows == len(part.pages)
        assert (np.diff(part.pages.astype(int)) >= 0).all()
        assert (np.diff(part.pages.astype(int)) <= 1).all()
        assert part.stream.num_tables == other.num_tables == 3
    restored = _restored(stream, pages, slices)
    np.testing.assert_array_equal(restored, stream.accesses)


def _restored(stream, pages, slices):
    """Return the access stream, from the slices: whose row is decided by a known page's slice."""
    in_first = _pages_of_first(stream, pages, slices)
    rows = np.unique(stream.accesses)
    names = [rows[in_first[pages[rows]]], rows[~in_first[pages[rows]]]]
    queues = [iter(each[part.stream.accesses]) for each, part in zip(names, slices, strict=True)]
    first = in_first[pages[stream.accesses]]
    return np.array([next(queues[0] if is_first else queues[1]) for is_first in first])


def _pages_of_first(stream, pages, slices):
    """Return which pages are in the first slice: a slice of the pages alone, a row per page."""
    alone = Stream(
        np.arange(pages.max() + 1, dtype=np.uint64),
        np.ones(pages.max() + 1, dtype=np.uint32),
        np.array([0, pages.max() + 1], dtype=np.uint64),
    )
    part = page_slice(alone, np.arange(pages.max() + 1, dtype=np.uint32), 1, 0, 0)
    assert sum(len(each.stream.accesses) for each in slices) == len(stream.accesses)
    return part.stream.lengths.astype(bool)


@pytest.fixture(scope="module")
def large():
    return generate(num_samples=24_000, num_tables=4, name="large")


@pytest.mark.parametrize("policy", ["lru", "s3fifo"])
def test_sampled_points_are_near_the_full_simulation(large, policy):
    workload = Workload.of(large, 32, 16, "float32", 0.5)
    capacities = capacities_of(large)
    exact = Curve(workload, policy, 0.01).points(capacities)
    sampled = Curve(workload, policy, 1.0, min_accesses=1).points(capacities)
    for point, truth in zip(sampled, exact, strict=True):
        assert point.sample_rate < 1
        assert point.miss_ratio_error > 0
        error = abs(point.miss_ratio - truth.miss_ratio)
        assert error <= 1.5 * point.miss_ratio_error + 0.005
        assert point.reads_per_call == pytest.approx(truth.reads_per_call, rel=0.1)
        middle = np.median(truth.reads)
        assert np.median(point.reads) == pytest.approx(middle, rel=0.15, abs=2)


def test_curve_raises_the_rate_until_the_error_is_met(large):
    workload = Workload.of(large, 32, 16, "float32", 0.5)
    capacities = capacities_of(large)
    rates = []
    for max_error in (1.0, 0.02, 1e-9):
        curve = Curve(workload, "lru", max_error, min_accesses=1)
        points = curve.points(capacities)
        rates.append(points[0].sample_rate)
        assert max(point.miss_ratio_error for point in points) <= max_error
        (again,) = curve.points(capacities[:1])
        assert again.sample_rate == points[0].sample_rate
    assert rates == sorted(rates)
    assert rates[-1] == 1


def test_points_count_no_warm_up_call(large):
    workload = Workload.of(large, 32, 16, "float32", 0.5)
    (point,) = Curve(workload, "lru", 0.01).points(capacities_of(large, [0.1]))
    assert len(point.reads) == workload.counted_calls
    counted = large.samples(workload.first_sample, large.num_samples)
    assert workload.counted_accesses == counted.num_lookups


def test_points_of_many_calls_count_some_of_them(large):
    workload = Workload.of(large, 1, 16, "float32", 0.25)
    (point,) = Curve(workload, "lru", 0.01).points(capacities_of(large, [0.1]))
    (record,) = simulate(large, ["lru"], [0.1], 0.25, batch_size=1, embedding_dim=16)
    assert point.miss_ratio == pytest.approx(record["miss_ratio"], abs=1e-4)
    assert workload.counted_calls // 8 < len(point.reads) <= 4096
    assert point.reads.mean() == pytest.approx(point.reads_per_call, rel=0.05)


@pytest.mark.parametrize("rate", [0.125, 0.5])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_unthinned_restores_mean_and_spread(rate, spread):
    random = np.random.default_rng(1)
    lookups = random.poisson(random.gamma(4, 50, 4000))
    factor = random.gamma(1 / spread, spread, 4000) if spread else 1.0
    counts = random.poisson(0.4 * lookups * factor)
    thinned = random.binomial(counts, rate)
    drawn = unthinned(thinned, lookups, rate, counts.mean())
    assert drawn.mean() == pytest.approx(counts.mean(), rel=0.03)
    assert drawn.std() == pytest.approx(counts.std(), rel=0.1)
    for share in (0.1, 0.5, 0.9):
        expected = np.quantile(counts, share)
        assert np.quantile(drawn, share) == pytest.approx(expected, rel=0.1, abs=3)


def test_unthinned_of_no_reads_is_no_reads():
    drawn = unthinned(np.zeros(5, dtype=int), np.full(5, 10), 0.5, 0.0)
    assert drawn.tolist() == [0] * 5


def test_workload_without_counted_accesses_raises():
    trace = Trace.from_lengths([0, 1, 1], [[3, 0, 0]], ["a"], [2])
    with pytest.raises(ValueError, match="no access of trace 'trace' is counted"):
        Workload.of(trace, 1, 16, "float32", 0.5)
    assert rows_per_page(16, "float32") > 1
    with pytest.raises(ValueError, match="no sample of trace 'trace' begins"):
        Workload.of(Trace.from_lengths([0, 1], [[2]], ["a"], [2]), 1, 16, "float32", 0.5)


def test_slices_are_fewer_than_a_first_rate_covers(large):
    workload = Workload.of(large, 32, 16, "float32", 0.5)
    (point,) = Curve(workload, "lru", 1.0, min_accesses=1).points(capacities_of(large, [0.1]))
    assert point.sample_rate in {SLICES * 0.5**halvings for halvings in range(3, 30)}
