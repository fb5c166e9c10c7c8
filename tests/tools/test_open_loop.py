"""Open loop: calls wait until they are due, and latencies count from the due time."""

import os
import re
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from replay_cases import COUNTS, DIM, POLICIES, calls_of

from tieralloc.tools.replay.arrivals import is_saturated, waiting_calls
from tieralloc.tools.replay.callers import Call, serve
from tieralloc.tools.replay.replay import replay
from tieralloc.tools.simulate import simulate

MS = 10**6
HOUR = 3600 * 10**9


class Hooked:
    """A store that passes the number of each call to a function before it serves the call."""

    def __init__(self, store, calls, before_call):
        self.tables = store.tables
        self._store = store
        self._before_call = before_call
        self._numbers = {id(call.indices): number for number, call in enumerate(calls)}

    def embedding_bag(self, indices, *arguments, **options):
        self._before_call(self._numbers[id(indices)])
        return self._store.embedding_bag(indices, *arguments, **options)


@pytest.fixture
def interruptible():
    """Restore SIGINT: a background job of a shell starts with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def every(milliseconds, calls):
    return np.arange(len(calls), dtype=np.int64) * milliseconds * MS


def test_serve_stall_delays_later_arrivals(trace, store):
    def stall(number):
        if number == 3:
            time.sleep(0.1)

    calls = calls_of(trace)
    arrivals = every(1, calls)
    times = serve(Hooked(store, calls, stall), calls, arrivals=arrivals)
    assert (times.due == arrivals).all()
    assert (np.diff(times.ended) > 0).all()
    since_stall = arrivals[3:] - arrivals[3]
    assert (times.latencies[3:] >= 100 * MS - since_stall).all()


def test_serve_closed_loop_stall_delays_one_call(trace, store):
    def stall(number):
        if number == 3:
            time.sleep(0.1)

    calls = calls_of(trace)
    times = serve(Hooked(store, calls, stall), calls)
    assert times.latencies[3] >= 100 * MS
    assert (times.due[1:] >= times.ended[:-1]).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_serve_no_call_starts_before_it_is_due(trace, store, threads):
    calls = calls_of(trace)[:4]
    arrivals = every(40, calls)
    started = {}

    def note(number):
        started[number] = time.perf_counter_ns()

    before = time.perf_counter_ns()
    serve(Hooked(store, calls, note), calls, threads, arrivals=arrivals)
    for number, due in enumerate(arrivals):
        assert started[number] - before >= due


def test_serve_free_thread_continues_during_a_stall(trace, store):
    calls = calls_of(trace)
    others_served = threading.Event()

    def stall(number):
        if number == 0:
            assert others_served.wait(60)
        elif number == len(calls) - 1:
            others_served.set()

    times = serve(Hooked(store, calls, stall), calls, 2, arrivals=every(1, calls))
    assert (times.due == every(1, calls)).all()
    assert (times.ended[0] > times.ended[1:-1]).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_serve_error_stops_waiting_threads(trace, store, threads):
    bad = Call(None, np.array([10**6] * 3), np.arange(4))
    calls = [bad, *calls_of(trace)]
    with pytest.raises(IndexError, match="1000000"):
        serve(store, calls, threads, arrivals=np.arange(len(calls)) * HOUR)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("interruptible")
def test_serve_interrupt_stops_waiting_threads(trace, store, threads):
    calls = calls_of(trace)
    signalling = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - raised at any statement
        signalling.start()
        serve(store, calls, threads, arrivals=np.arange(1, len(calls) + 1) * HOUR)
    signalling.join()


@pytest.mark.parametrize("policy", POLICIES)
def test_replay_open_loop_counts_match_closed_loop(trace, policy, tmp_path):
    settings = {"batch_size": 8, "embedding_dim": DIM, "seed": 3, "directory": tmp_path}
    (closed,) = replay(trace, [policy], [0.1], **settings)
    for record in replay(trace, [policy], [0.1], rates=[2000, 1e308], **settings):
        assert {f: record[f] for f in (*COUNTS, "calls")} == {
            f: closed[f] for f in (*COUNTS, "calls")
        }


def test_replay_open_loop_by_rows_matches_simulate(trace, tmp_path):
    (served,) = replay(
        trace, ["s3fifo"], [0.1], batch_size="row", embedding_dim=4, rates=[1e6], directory=tmp_path
    )
    (simulated,) = simulate(trace, ["s3fifo"], [0.1])
    assert {field: served[field] for field in COUNTS} == {f: simulated[f] for f in COUNTS}


def test_replay_each_rate_ends_by_seconds_or_trace(trace, tmp_path):
    boundary = trace.sample_of_access(trace.num_lookups // 2)
    records = replay(
        trace,
        ["lru"],
        [0.1],
        batch_size=4,
        threads=2,
        rates=[100, 400, 1e5],
        seconds=0.05,
        directory=tmp_path,
    )
    whole = trace.samples(boundary, 600)
    calls = [5, 20, -(-whole.num_samples // 4)]
    assert [record["calls"] for record in records] == calls
    for record in records:
        end = min(boundary + 4 * record["calls"], 600)
        assert record["lookups"] == trace.samples(boundary, end).num_lookups
        assert record["warm_up_lookups"] == trace.num_lookups - whole.num_lookups
        assert record["latency_us_by_outcome"]["hit"]["count"] <= record["calls"]


def test_replay_records_have_load_fields(trace, tmp_path):
    (closed,) = replay(trace, ["lru"], [0.1], batch_size=8, directory=tmp_path)
    rates = [500, 1e6]
    slow, fast = replay(trace, ["lru"], [0.1], batch_size=8, rates=rates, directory=tmp_path)
    assert (closed["loop"], closed["offered_rate"]) == ("closed", None)
    assert closed["achieved_rate"] > 0
    assert set(slow) - set(closed) == {
        *("backlog", "backlog_max", "saturated", "repeats", "latency_us_quartiles")
    }
    for record, rate in zip((slow, fast), rates, strict=True):
        assert (record["loop"], record["offered_rate"]) == ("open", rate)
        assert record["rate_unit"] == "calls/s"
        assert 0 < record["achieved_rate"] <= rate
        rows = record["lookups"] / record["calls"]
        assert record["rows_per_second"] == pytest.approx(rows * record["achieved_rate"])
        assert list(record["latency_us"].values()) == sorted(record["latency_us"].values())
        assert 0 <= record["backlog"] <= record["backlog_max"] < record["calls"]
    # At a million calls per second all calls arrive before the first dozens are answered.
    assert fast["saturated"]
    assert fast["backlog"] > 0


def test_replay_repeats_take_turns_and_give_the_median_run(trace, tmp_path):
    labels = []

    @contextmanager
    def noting(label, total, unit):
        labels.append(label)
        yield lambda count, status="": None

    settings = {"batch_size": 8, "directory": tmp_path, "progress": noting}
    found = replay(trace, ["lru", "clock"], [0.1], rates=[900, 5000], repeats=3, **settings)
    served = [re.match(r"serving (\w+) at .*, (.*) calls/s", label) for label in labels]
    order = [match[1] for match in served if match]
    assert order == ["lru", "clock", "clock", "lru"] * 3
    for record in found:
        low, high = record["latency_us_quartiles"]["p50"]
        assert record["repeats"] == 3
        assert low <= record["latency_us"]["p50"] <= high
    assert [(r["policy"], r["offered_rate"]) for r in found] == [
        (policy, rate) for policy in ("lru", "clock") for rate in (900, 5000)
    ]


def test_replay_auto_rates_end_at_saturation(trace, tmp_path):
    closed, *swept = replay(
        trace, ["lru"], [0.1], batch_size=4, rates="auto", seconds=0.1, directory=tmp_path
    )
    assert closed["loop"] == "closed"
    assert all(record["loop"] == "open" for record in swept)
    shares = [record["offered_rate"] / closed["achieved_rate"] for record in swept]
    expected = [0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0]
    assert shares == pytest.approx(expected[: len(shares)])
    assert len(shares) >= 6
    assert swept[-1]["saturated"] or shares[-1] == pytest.approx(2)
    assert not any(record["saturated"] for record in swept[5:-1])


def test_serve_stall_leaves_a_backlog(trace, store):
    def stall(number):
        if number == 5:
            time.sleep(0.2)

    calls = calls_of(trace)
    times = serve(Hooked(store, calls, stall), calls, arrivals=every(1, calls))
    assert waiting_calls(times.due, times.ended, 1)[-1] >= len(calls) - 6
    assert is_saturated(times.due, times.ended, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": [0]}, "rates: expected finite and above 0 calls/s, got 0"),
        ({"rates": [100, -1.5]}, "rates: .* got -1.5"),
        ({"rates": [float("nan")]}, "rates: .* got nan"),
        ({"rates": [float("inf")]}, "rates: .* got inf"),
        ({"rates": []}, r"rates: expected at least one or 'auto', got \[\]"),
        ({"rates": [0.5], "seconds": 1}, "expected at least 1 calls/s, got 0.5"),
        ({"rates": "auto", "seconds": 0}, "seconds: expected above 0, got 0"),
        ({"rates": [100], "verify": True}, "verify: delays the callers"),
        ({"rates": [100], "repeats": 0}, "repeats: expected at least 1, got 0"),
    ],
)
def test_replay_bad_load_raises_and_leaves_no_file(trace, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        replay(trace, ["lru"], [0.1], directory=tmp_path, **change)
    assert not list(tmp_path.iterdir())
