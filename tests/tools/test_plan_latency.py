"""Latencies of a plan: measured calls, drawn times, and queues with known answers."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieralloc import TieredStore
from tieralloc.tools.plan.call_times import CallTimes, measure_calls
from tieralloc.tools.plan.curve import Workload
from tieralloc.tools.plan.latency import predict, waits
from tieralloc.trace import Trace

TIMES = st.lists(st.floats(0, 100), min_size=1, max_size=30)


def times_of(*levels):
    """Return the times of levels of (reads, µs of a call), without spread."""
    return CallTimes.of("engine", [(reads, [us, us]) for reads, us in levels])


@given(st.data())
def test_waits_match_a_queue_served_call_by_call(data):
    gaps = np.array(data.draw(TIMES))
    service = np.array(data.draw(st.lists(st.floats(0, 100), min_size=len(gaps))))[: len(gaps)]
    arrival, free, expected = 0.0, 0.0, []
    for gap, time in zip(gaps.tolist(), service.tolist(), strict=True):
        arrival += gap
        start = max(arrival, free)
        expected.append(start - arrival)
        free = start + time
    np.testing.assert_allclose(waits(gaps, service), expected, atol=1e-6)


@pytest.mark.parametrize("busy", [0.3, 0.6])
def test_predict_of_exponential_times_matches_theory(busy):
    # M/M/1: the time from arrival to answer is exponential, of mean 1 / (1 - busy) times.
    shares = (np.arange(20_000) + 0.5) / 20_000
    times = CallTimes("engine", np.array([0.0, 1.0]), np.tile(-1000 * np.log(1 - shares), (2, 1)))
    latency = predict(np.array([0]), times, rate=busy * 1000)
    mean = 1000 / (1 - busy)
    assert latency.utilisation == pytest.approx(busy, rel=0.02)
    assert latency.p50_us == pytest.approx(mean * math.log(2), rel=0.05)
    assert latency.p99_us == pytest.approx(mean * math.log(100), rel=0.1)


def test_predict_without_a_rate_has_the_times_of_calls():
    times = times_of((0, 10), (10, 110), (20, 310))
    latency = predict(np.array([10] * 90 + [20] * 10), times)
    assert latency == (110, 310, 0)


def test_predict_beyond_one_caller_is_saturated():
    latency = predict(np.array([10]), times_of((0, 10), (10, 1010)), rate=1000)
    assert latency.p50_us is latency.p99_us is None
    assert latency.utilisation == pytest.approx(1.01)


def test_predict_more_reads_are_never_faster():
    times = times_of((0, 10), (4, 60), (8, 200))
    few, many = (predict(np.array([reads]), times, rate=2000) for reads in (5, 6))
    assert few.p50_us < many.p50_us
    assert few.p99_us < many.p99_us


@given(st.integers(0, 40), st.floats(0, 0.999))
def test_draw_is_linear_between_levels_and_beyond(reads, share):
    times = times_of((0, 10), (4, 60), (8, 200))
    expected = np.interp(min(reads, 8), [0, 4, 8], [10, 60, 200]) + 35 * max(0, reads - 8)
    drawn = times.draw(np.array([reads]), np.array([share]))
    assert drawn[0] == pytest.approx(expected)


@given(st.lists(st.lists(st.floats(1, 100), min_size=1, max_size=8), min_size=2, max_size=6))
def test_times_of_more_reads_are_no_less(times):
    made = CallTimes.of("engine", list(enumerate(times)))
    assert (np.diff(made.quantiles_us, axis=0) >= 0).all()
    assert (np.diff(made.quantiles_us, axis=1) >= 0).all()
    assert min(map(min, times)) <= made.quantiles_us.min()
    assert made.quantiles_us.max() <= max(map(max, times))


@pytest.fixture(scope="module")
def workload(trace):
    return Workload.of(trace, 16, 16, "float32", 0.5)


def test_measure_calls_reads_what_a_level_asks_for(workload, tmp_path):
    times = measure_calls(workload, 12, directory=tmp_path, seconds=0.1)
    assert times.reads[0] == 0
    assert (np.diff(times.reads) > 0).all()
    assert times.reads[-1] == pytest.approx(12, rel=0.4)
    assert (np.diff(times.quantiles_us, axis=1) >= 0).all()
    assert (times.quantiles_us > 0).all()
    assert not list(tmp_path.iterdir())


def test_measure_calls_without_other_rows_reads_nothing(tmp_path):
    trace = Trace.from_lengths([0] * 8, [[1] * 8], ["a"], [1])
    workload = Workload.of(trace, 2, 16, "float32", 0.5)
    times = measure_calls(workload, 3, directory=tmp_path, seconds=0.05)
    assert times.reads.tolist() == [0, 1]
    np.testing.assert_array_equal(times.quantiles_us[0], times.quantiles_us[1])


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_measure_calls_of_a_file_only_reads_it(trace, tmp_path, dtype):
    path = tmp_path / "emb.tier"
    with TieredStore(path, mode="w", fast_rows=4) as store:
        store.create_table("other", 1000, 64)
        for name, rows in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True):
            store.create_table(name, rows, 16, dtype)
    before = {each.name: _digest(each) for each in tmp_path.iterdir()}
    workload = Workload.of(trace, 16, 16, dtype, 0.5)
    times = measure_calls(workload, 8, directory=Path("/nowhere"), file=path, seconds=0.05)
    assert times.reads[-1] > 2
    assert {each.name: _digest(each) for each in tmp_path.iterdir()} == before


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_measure_calls_of_a_file_with_other_tables_raises(workload, tmp_path):
    path = tmp_path / "emb.tier"
    with TieredStore(path, mode="w", fast_rows=1) as store:
        store.create_table("other", 10, 16)
    with pytest.raises(ValueError, match=r"emb\.tier: expected a table"):
        measure_calls(workload, 8, directory=tmp_path, file=path)
    with TieredStore(path, mode="w", fast_rows=1) as store:
        for name in workload.trace.table_names:
            store.create_table(name, 10, 8)
    with pytest.raises(ValueError, match=r"of \(16, 'float32'\), got \(8, 'float32'\)"):
        measure_calls(workload, 8, directory=tmp_path, file=path)
    with pytest.raises(FileNotFoundError):
        measure_calls(workload, 8, directory=tmp_path, file=tmp_path / "none")
