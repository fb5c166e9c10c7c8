"""Open-loop load: Poisson arrivals, waiting until calls are due, backlog and saturation."""

import heapq
import threading
from time import perf_counter_ns

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieralloc.tools.replay.arrivals import (
    is_saturated,
    poisson_arrivals,
    wait_until,
    waiting_calls,
)

SEEDS = range(5)
HOUR = 3600 * 10**9


def serve_first_come_first_served(due, services, threads):
    """Start and end times of each call: a discrete-event model of one queue and `threads`."""
    free = [0] * threads
    starts, ends = [], []
    for arrival, service in zip(due, services, strict=True):
        starts.append(max(arrival, heapq.heappop(free)))
        ends.append(starts[-1] + service)
        heapq.heappush(free, ends[-1])
    return starts, ends


@given(st.integers(1, 2000), st.floats(0.01, 1e6), st.integers(0, 2**63 - 1))
def test_poisson_arrivals_last_call_matches_the_rate(count, rate, seed):
    arrivals = poisson_arrivals(count, rate, seed)
    assert arrivals.shape == (count,)
    assert arrivals[0] >= 0
    assert (np.diff(arrivals) >= 0).all()
    assert arrivals[-1] == pytest.approx(count / rate * 1e9, abs=1, rel=1e-12)


@given(st.integers(1, 200), st.integers(0, 100))
def test_poisson_arrivals_rate_scales_the_pattern(count, seed):
    slow, fast = poisson_arrivals(count, 50, seed), poisson_arrivals(count, 100, seed)
    assert np.abs(slow - 2 * fast).max() <= 2
    assert (poisson_arrivals(count, 50, seed) == slow).all()


def test_poisson_arrivals_differ_by_seed():
    assert len({tuple(poisson_arrivals(10, 1, seed)) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_arrivals_gaps_are_exponential_and_independent(seed):
    count, rate = 20_000, 500.0
    gaps = np.diff(poisson_arrivals(count, rate, seed), prepend=0) * 1e-9 * rate
    expected = 1 - np.exp(-np.sort(gaps))
    distance = np.abs(expected - (np.arange(count) + 0.5) / count).max()
    assert distance < 1.95 / np.sqrt(count)  # Kolmogorov-Smirnov, 1 in 1000
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 3.5 / np.sqrt(count)


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_arrivals_count_variance_equals_mean(seed):
    arrivals = poisson_arrivals(20_000, 10, seed)
    counts = np.bincount(arrivals // 10**9, minlength=2000)[:2000]
    assert counts.mean() == pytest.approx(10, abs=0.01)
    assert counts.var() == pytest.approx(10, rel=3.5 * np.sqrt(2 / 2000))


@pytest.mark.parametrize("delay", [-(10**9), 0, 10**5, 3 * 10**6])
def test_wait_until_returns_when_due(delay):
    due = perf_counter_ns() + delay
    wait_until(due, threading.Event())
    assert perf_counter_ns() >= due


def test_wait_until_stopped_returns():
    stopped = threading.Event()
    waiting = threading.Thread(target=wait_until, args=(perf_counter_ns() + HOUR, stopped))
    waiting.start()
    assert waiting.is_alive()
    stopped.set()
    waiting.join(60)
    assert not waiting.is_alive()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), min_size=1, max_size=40),
    st.integers(1, 4),
)
def test_waiting_calls_matches_queue_model(calls, threads):
    due = np.cumsum([gap for gap, _ in calls])
    starts, ends = serve_first_come_first_served(due, [service for _, service in calls], threads)
    expected = [sum(start > due[i] for start in starts[: i + 1]) for i in range(len(due))]
    assert waiting_calls(due, np.array(ends), threads).tolist() == expected


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("utilisation", "saturated"), [(0.2, False), (0.8, False), (1.1, True), (1.5, True), (50, True)]
)
def test_is_saturated_depends_on_utilisation(utilisation, saturated, seed, threads):
    due = poisson_arrivals(4000, 1000 * threads, seed)
    random = np.random.default_rng(seed + 100)
    services = (random.exponential(utilisation * 1e6, 4000) + 1).astype(np.int64)
    _, ends = serve_first_come_first_served(due.tolist(), services.tolist(), threads)
    assert is_saturated(due, np.array(ends), threads) == saturated


def test_is_saturated_slowly_growing_backlog_is_true():
    due = poisson_arrivals(4000, 1000, 1)
    _, ends = serve_first_come_first_served(due.tolist(), [1_035_000] * 4000, 1)
    assert due[-1] > 0.95 * ends[-1]
    assert is_saturated(due, np.array(ends), 1)


def test_is_saturated_one_stall_is_false():
    due = np.arange(1, 1001) * 10**6
    services = [500_000] * 1000
    services[600] = 100 * 10**6
    _, ends = serve_first_come_first_served(due.tolist(), services, 1)
    waiting = waiting_calls(due, np.array(ends), 1)
    assert waiting.max() > 90
    assert waiting[-1] == 0
    assert not is_saturated(due, np.array(ends), 1)


def test_is_saturated_few_calls_is_false():
    due, ended = np.array([10, 20, 30, 40]), np.array([41, 41, 41, 42])
    assert waiting_calls(due, ended, 1).tolist() == [0, 1, 2, 3]
    assert not is_saturated(due, ended, 1)
