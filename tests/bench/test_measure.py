"""Figures of the comparison with peers: what is taken, in which order, and what comes of it."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.peers.loads import Batch
from bench.peers.measure import (
    Spread,
    alternate,
    percentile,
    ratios,
    serve,
    serve_from_threads,
)

speeds = st.lists(st.floats(1.0, 1e9), min_size=1, max_size=20)


def batches(count: int, rows: int = 3) -> list[Batch]:
    return [Batch(np.full(rows, number), np.array([0, rows])) for number in range(count)]


@given(speeds, st.floats(0.01, 100.0))
def test_ratios_are_exact_where_both_slow_down_together(theirs, factor):
    spread = ratios([factor * one for one in theirs], theirs)
    for value in (spread.low, spread.median, spread.high):
        assert value == pytest.approx(factor)
    assert spread.count == len(theirs)


@given(speeds)
def test_quartiles_enclose_the_median_within_the_values(values):
    spread = Spread.of(values)
    assert min(values) <= spread.low <= spread.median <= spread.high <= max(values)


@given(speeds)
def test_the_99th_percentile_of_a_few_values_is_the_largest(values):
    assert percentile(values, 99) == max(values)


def test_the_99th_percentile_of_many_leaves_the_largest_hundredth_out():
    assert percentile(list(range(1001)), 99) == 990


def test_contenders_take_turns():
    calls = []

    def contender(name):
        return lambda turn: calls.append((turn, name)) or turn

    results = alternate(3, {"ours": contender("ours"), "theirs": contender("theirs")})
    assert calls == [(turn, name) for turn in range(3) for name in ("ours", "theirs")]
    assert results == {"ours": [0, 1, 2], "theirs": [0, 1, 2]}


def test_serving_goes_through_the_batches_in_order_and_counts_their_rows():
    seen = []
    served = serve(lambda batch: seen.append(int(batch.indices[0])), batches(5), seconds=60)
    assert seen == [0, 1, 2, 3, 4]
    assert served.rows == 15
    assert len(served.latencies) == 5
    assert served.seconds == pytest.approx(sum(served.latencies))


def test_serving_ends_when_its_time_is_over_but_not_before_one_batch():
    served = serve(lambda _: time.sleep(0.01), batches(1000), seconds=0.001)
    assert len(served.latencies) == 1


def test_threads_together_serve_what_they_report():
    counts = [0, 0, 0, 0]

    def call(batch):
        counts[int(batch.indices[0])] += 1  # an item is served by one thread at a time only here
        time.sleep(0.001)

    served = serve_from_threads(call, batches(4), seconds=0.05, threads=1)
    assert served.rows == 3 * sum(counts) > 0
    assert len(served.latencies) == sum(counts)
    many = serve_from_threads(lambda _: time.sleep(0.001), batches(4), seconds=0.05, threads=3)
    assert many.rows == 3 * len(many.latencies)


def test_a_failure_in_a_thread_is_raised():
    def call(_):
        raise OSError("no such row")

    with pytest.raises(OSError, match="no such row"):
        serve_from_threads(call, batches(2), seconds=0.01, threads=2)
