"""Open loop: calls wait for their time, latencies count from it, and a stall is not hidden."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from test_replay import COUNTS, DIM, POLICIES, calls_of

from tieralloc import TieredStore
from tieralloc.tools.replay.arrivals import is_saturated, waiting_calls
from tieralloc.tools.replay.callers import Call, serve
from tieralloc.tools.replay.replay import replay
from tieralloc.tools.replay.source import SourceRows
from tieralloc.tools.simulate import simulate
from tieralloc.trace import generate

MS = 10**6
HOUR = 3600 * 10**9


@pytest.fixture(scope="module")
def trace():
    return generate(num_samples=600, num_tables=3, name="small")


@pytest.fixture
def store(trace, tmp_path):
    with TieredStore(tmp_path / "slow.tier", fast_rows=50) as store:
        source = SourceRows(trace.num_embeddings.tolist(), DIM)
        for position, name in enumerate(trace.table_names):
            table = store.create_table(name, source.num_embeddings[position], DIM)
            table.load(source.parts(position))
        yield store


class Watched:
    """A store that tells a function of ours the number of each call before it serves it."""

    def __init__(self, store, calls, told):
        self.tables = store.tables
        self._store = store
        self._told = told
        self._numbers = {id(call.indices): number for number, call in enumerate(calls)}

    def embedding_bag(self, indices, *arguments, **options):
        self._told(self._numbers[id(indices)])
        return self._store.embedding_bag(indices, *arguments, **options)


@pytest.fixture
def interruptible():
    """A job in a shell's background is born ignoring interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def every(milliseconds, calls):
    return np.arange(len(calls), dtype=np.int64) * milliseconds * MS


def test_a_stall_shows_in_the_calls_that_arrive_behind_it(trace, store):
    def stall(number):
        if number == 3:
            time.sleep(0.1)

    calls = calls_of(trace)
    arrivals = every(1, calls)
    times = serve(Watched(store, calls, stall), calls, arrivals=arrivals)
    assert (times.due == arrivals).all()
    assert (np.diff(times.ended) > 0).all()
    behind = arrivals[3:] - arrivals[3]
    assert (times.latencies[3:] >= 100 * MS - behind).all()


def test_a_closed_loop_hides_the_stall_from_all_other_calls(trace, store):
    def stall(number):
        if number == 3:
            time.sleep(0.1)

    calls = calls_of(trace)
    times = serve(Watched(store, calls, stall), calls)
    assert times.latencies[3] >= 100 * MS
    assert (times.due[1:] >= times.ended[:-1]).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_no_call_begins_before_it_is_due(trace, store, threads):
    calls = calls_of(trace)[:4]
    arrivals = every(40, calls)
    begun = {}

    def note(number):
        begun[number] = time.perf_counter_ns()

    before = time.perf_counter_ns()
    serve(Watched(store, calls, note), calls, threads, arrivals=arrivals)
    for number, due in enumerate(arrivals):
        assert begun[number] - before >= due


def test_a_thread_that_is_free_serves_on_while_another_is_stalled(trace, store):
    calls = calls_of(trace)
    others_served = threading.Event()

    def stall(number):
        if number == 0:
            assert others_served.wait(60)
        elif number == len(calls) - 1:
            others_served.set()

    times = serve(Watched(store, calls, stall), calls, 2, arrivals=every(1, calls))
    assert (times.due == every(1, calls)).all()
    assert (times.ended[0] > times.ended[1:-1]).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_ends_those_who_wait(trace, store, threads):
    bad = Call(None, np.array([10**6] * 3), np.arange(4))
    calls = [bad, *calls_of(trace)]
    with pytest.raises(IndexError, match="1000000"):
        serve(store, calls, threads, arrivals=np.arange(len(calls)) * HOUR)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_those_who_wait(trace, store, threads):
    calls = calls_of(trace)
    signalling = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - wherever it meets us
        signalling.start()
        serve(store, calls, threads, arrivals=np.arange(1, len(calls) + 1) * HOUR)
    signalling.join()


@pytest.mark.parametrize("policy", POLICIES)
def test_one_thread_counts_what_a_closed_loop_does(trace, policy, tmp_path):
    settings = {"batch_size": 8, "embedding_dim": DIM, "seed": 3, "directory": tmp_path}
    (closed,) = replay(trace, [policy], [0.1], **settings)
    for record in replay(trace, [policy], [0.1], rates=[2000, 1e308], **settings):
        assert {f: record[f] for f in (*COUNTS, "calls")} == {
            f: closed[f] for f in (*COUNTS, "calls")
        }


def test_one_row_a_call_counts_what_the_simulator_does(trace, tmp_path):
    (served,) = replay(
        trace, ["s3fifo"], [0.1], batch_size="row", embedding_dim=4, rates=[1e6], directory=tmp_path
    )
    (simulated,) = simulate(trace, ["s3fifo"], [0.1])
    assert {field: served[field] for field in COUNTS} == {f: simulated[f] for f in COUNTS}


def test_each_rate_begins_anew_and_ends_with_its_seconds_or_the_trace(trace, tmp_path):
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


def test_records_tell_the_load(trace, tmp_path):
    (closed,) = replay(trace, ["lru"], [0.1], batch_size=8, directory=tmp_path)
    rates = [500, 1e6]
    slow, fast = replay(trace, ["lru"], [0.1], batch_size=8, rates=rates, directory=tmp_path)
    assert (closed["loop"], closed["offered_rate"]) == ("closed", None)
    assert closed["achieved_rate"] > 0
    assert set(slow) - set(closed) == {"backlog", "backlog_max", "saturated"}
    for record, rate in zip((slow, fast), rates, strict=True):
        assert (record["loop"], record["offered_rate"]) == ("open", rate)
        assert record["rate_unit"] == "calls/s"
        assert 0 < record["achieved_rate"] <= rate
        rows = record["lookups"] / record["calls"]
        assert record["rows_per_second"] == pytest.approx(rows * record["achieved_rate"])
        assert list(record["latency_us"].values()) == sorted(record["latency_us"].values())
        assert 0 <= record["backlog"] <= record["backlog_max"] < record["calls"]
    # A million calls a second have all arrived before the first dozens are answered.
    assert fast["saturated"]
    assert fast["backlog"] > 0


def test_auto_goes_from_a_fifth_of_the_closed_loop_to_saturation(trace, tmp_path):
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


def test_a_stall_leaves_a_backlog(trace, store):
    def stall(number):
        if number == 5:
            time.sleep(0.2)

    calls = calls_of(trace)
    times = serve(Watched(store, calls, stall), calls, arrivals=every(1, calls))
    assert waiting_calls(times.due, times.ended, 1)[-1] >= len(calls) - 6
    assert is_saturated(times.due, times.ended, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rates": [0]}, "rate is 0 calls/s, expected above 0"),
        ({"rates": [100, -1.5]}, "rate is -1.5 calls/s"),
        ({"rates": [float("nan")]}, "rate is nan"),
        ({"rates": [float("inf")]}, "rate is inf"),
        ({"rates": []}, r"rates is \[\], expected one or more"),
        ({"rates": [0.5], "seconds": 1}, "no call arrives in 1 s at a rate of 0.5 calls/s"),
        ({"rates": "auto", "seconds": 0}, "seconds is 0"),
        ({"rates": [100], "verify": True}, "verify holds callers up"),
    ],
)
def test_bad_loads_are_named_and_leave_nothing(trace, tmp_path, change, told):
    with pytest.raises(ValueError, match=told):
        replay(trace, ["lru"], [0.1], directory=tmp_path, **change)
    assert not list(tmp_path.iterdir())
