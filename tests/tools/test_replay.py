"""Replay: served vectors are right, and counts equal the simulator's."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference_traces import reference
from replay_cases import COUNTS, DIM, POLICIES, calls_of
from trace_strategies import traces

from tieralloc.tools.replay import records, runs
from tieralloc.tools.replay.callers import Call, serve
from tieralloc.tools.replay.errors import VerificationError
from tieralloc.tools.replay.replay import replay
from tieralloc.tools.simulate import simulate
from tieralloc.trace import generate


@pytest.mark.parametrize("policy", POLICIES)
def test_replay_by_rows_matches_simulate(trace, policy, tmp_path):
    (served,) = replay(
        trace, [policy], [0.1], batch_size="row", embedding_dim=4, directory=tmp_path
    )
    (simulated,) = simulate(trace, [policy], [0.1])
    assert {field: served[field] for field in COUNTS} == {f: simulated[f] for f in COUNTS}
    assert served["calls"] == served["lookups"]


@pytest.mark.parametrize("policy", POLICIES)
def test_replay_by_samples_is_close_to_simulate(trace, policy, tmp_path):
    (served,) = replay(trace, [policy], [0.3], batch_size=1, count_from=0, directory=tmp_path)
    (simulated,) = simulate(trace, [policy], [0.3], count_from=0)
    assert served["lookups"] == simulated["lookups"]
    assert served["on_demand_fetches"] == pytest.approx(simulated["on_demand_fetches"], rel=0.01)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    traces(),
    st.sampled_from(POLICIES),
    st.sampled_from(["row", 1, 2, 5]),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.3, 0.5]),
)
def test_replay_verify_accepts_every_vector(trace, policy, batch_size, threads, count_from):
    accesses = trace.num_lookups
    assume(accesses > 0)
    counted = trace.sample_of_access(int(count_from * accesses))
    assume(counted < trace.num_samples)
    (record,) = replay(
        trace,
        [policy],
        [1],
        batch_size=batch_size,
        embedding_dim=3,
        threads=threads,
        count_from=count_from,
        verify=True,
    )
    if batch_size == "row":
        calls = accesses
    else:
        calls = -(-counted // batch_size) - (-(trace.num_samples - counted) // batch_size)
    assert record["verified"] == calls
    assert record["evictions"] == 0


def test_replay_threads_serve_each_call_once(trace, tmp_path):
    (record,) = replay(
        trace, ["s3fifo"], [0.1], batch_size=4, threads=3, verify=True, directory=tmp_path
    )
    counted = trace.num_samples - trace.sample_of_access(trace.num_lookups // 2)
    assert record["calls"] == -(-counted // 4)
    assert record["lookups"] == trace.samples(trace.num_samples - counted, 600).num_lookups


def test_embedding_bag_matches_sums_of_arrays(trace, source, store):
    arrays = [np.concatenate(list(source.parts(table))) for table in range(trace.num_tables)]
    for indices, offsets in trace.batches(32):
        out = store.embedding_bag(indices, offsets)
        bags = len(out)
        for table, rows in enumerate(arrays):
            for bag in range(bags):
                begin, end = offsets[table * bags + bag : table * bags + bag + 2]
                expected = rows[indices[begin:end]].sum(axis=0, dtype=np.float64)
                assert (out[bag, table * DIM : (table + 1) * DIM] == expected).all()


def test_source_rows_are_distinct(source):
    rows = np.concatenate([*source.parts(0), *source.parts(1), *source.parts(2)])
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert np.abs(rows.mean()) < 0.01
    assert rows.min() < -0.99
    assert rows.max() > 0.99


@given(st.data())
def test_first_wrong_locates_one_wrong_value(trace, source, data):
    indices, offsets = next(trace.batches(8))
    arrays = [np.concatenate(list(source.parts(table))) for table in range(3)]
    bags = [arrays[i // 8][indices[offsets[i] : offsets[i + 1]]].sum(axis=0) for i in range(24)]
    out = np.concatenate([np.array(bags[t * 8 : t * 8 + 8]) for t in range(3)], axis=1)
    assert source.first_wrong(out, range(3), indices, offsets) is None
    bag, column = data.draw(st.integers(0, 7)), data.draw(st.integers(0, 3 * DIM - 1))
    out[bag, column] += data.draw(st.sampled_from([1 / 256, -3.0, np.nan]))
    assert source.first_wrong(out, range(3), indices, offsets) == (column // DIM, bag)


@pytest.mark.parametrize("threads", [1, 3])
def test_serve_wrong_vector_raises(trace, source, store, threads):
    row = int(calls_of(trace)[5].indices[0])
    store.table("t0").update([row], np.zeros((1, DIM), dtype=np.float32))
    with pytest.raises(VerificationError, match="of table 0; expected the sum of its rows"):
        serve(store, calls_of(trace), threads, source)


@pytest.mark.parametrize("threads", [1, 3])
def test_serve_error_of_one_thread_stops_all(trace, store, threads):
    bad = Call(None, np.array([10**6] * 3), np.arange(4))
    served = []
    with pytest.raises(IndexError, match="1000000"):
        serve(store, [*calls_of(trace)[:2], bad, *calls_of(trace)], threads, done=served.append)
    assert sum(served) < trace.num_lookups


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_replay_of_quantised_rows_is_verified(trace, tmp_path, dtype):
    settings = {"batch_size": 8, "embedding_dim": 32, "directory": tmp_path}
    (floats,) = replay(trace, ["lru"], [0.1], **settings)
    (record,) = replay(trace, ["lru"], [0.1], dtype=dtype, verify=True, **settings)
    assert record["dtype"] == dtype
    assert record["verified"] >= record["calls"]
    assert record["on_demand_fetches"] == floats["on_demand_fetches"]
    assert record["dram"]["vector_bytes"] < floats["dram"]["vector_bytes"]


def test_replay_records_have_contract_fields(trace, tmp_path):
    (simulated,) = simulate(trace, ["lru"], [0.1], batch_size=8, embedding_dim=DIM)
    (record,) = replay(trace, ["lru"], [0.1], batch_size=8, embedding_dim=DIM, directory=tmp_path)
    contract = ["rows_per_second", "latency_us", "dram_bytes", "slow_tier", "machine"]
    counts = list(simulated)[: list(simulated).index("batch_size")]
    assert list(record)[: len(counts) + len(contract)] == [*counts, *contract]
    assert list(record["latency_us"]) == ["p50", "max"]  # of 38 calls
    assert list(record["latency_us"].values()) == sorted(record["latency_us"].values())
    assert record["dram_bytes"] == sum(record["dram"].values())
    assert record["dram"]["vector_bytes"] >= record["fast_rows"] * DIM * 4
    assert record["slow_tier"].startswith("file: ")
    by_outcome = record["latency_us_by_outcome"]
    assert set(by_outcome["hit"]) <= {"count", "p50", "p90", "p99", "p999", "max"}
    assert by_outcome["hit"]["count"] + by_outcome["on_demand"]["count"] == record["calls"]
    curve = record["latency_curve_us"]
    assert curve == sorted(curve)
    assert curve[-1] == [1.0, record["latency_us"]["max"]]
    low, high = record["rows_per_second_quartiles"]
    assert 0 < low <= record["rows_per_second"] <= high
    # Counting starts with a sample, not an access: the calls before and after it are the same.
    assert record["device_reads"] == pytest.approx(simulated["device_reads"], rel=0.1)
    assert record["device_reads"] < record["on_demand_fetches"]
    assert record["device_reads_per_request"] == record["device_reads"] / record["calls"]


@pytest.mark.parametrize(
    ("calls", "known"),
    [
        (9, []),
        (20, ["p50"]),
        (999, ["p50", "p90"]),
        (1000, ["p50", "p90", "p99"]),
        (10000, ["p50", "p90", "p99", "p999"]),
    ],
)
def test_percentile_needs_ten_calls_beyond_it(calls, known):
    latencies = np.arange(calls) * 1000
    assert list(records._percentiles_us(latencies)) == [*known, "max"]
    for fraction, value in records._curve_us(latencies)[:-1]:
        assert fraction == 0 or (latencies > 1000 * value).sum() >= 9


def test_replay_policies_take_turns(trace, tmp_path, monkeypatch):
    turns = []
    take_turn = runs.Bench._take_turn

    def noting(bench, server, segment, done):
        turns.append((server.run.label, len(segment)))
        take_turn(bench, server, segment, done)

    monkeypatch.setattr(runs.Bench, "_take_turn", noting)
    found = replay(trace, ["lru", "clock"], [0.1], batch_size=8, directory=tmp_path)
    assert [label for label, _ in turns] == ["lru", "clock", "clock", "lru"] * 5
    for record in found:
        calls = [calls for label, calls in turns if label == record["policy"]]
        assert (len(calls), sum(calls)) == (record["turns"], record["calls"])


@pytest.mark.parametrize("threads", [1, 3])
def test_replay_baselines_stay_within_the_dram(tmp_path, threads):
    found = replay(
        *(generate(num_samples=4000, num_tables=3), ["lru"], [0.05]),
        **{"batch_size": 64, "threads": threads, "directory": tmp_path},
        **{"baselines": True, "verify": True},
    )
    by_name = {record["policy"]: record for record in found}
    assert list(by_name) == ["all in DRAM", "numpy.memmap", "Python LRU", "lru"]
    assert by_name["lru"]["dram"]["staging_bytes"] > 0  # of callers that have ended
    limit = by_name["lru"]["dram_bytes"]
    for name in ("numpy.memmap", "Python LRU"):
        assert by_name[name]["dram_bytes"] <= 1.15 * limit
        assert by_name[name]["baseline"]
        assert 0 < by_name[name]["on_demand_fetches"] < by_name[name]["lookups"]
    assert by_name["all in DRAM"]["on_demand_fetches"] == 0
    assert all(record["verified"] >= record["calls"] for record in found)
    assert not list(tmp_path.iterdir())


def test_replay_baselines_of_memory_raise(trace):
    with pytest.raises(ValueError, match="baselines: expected a closed loop from a file"):
        replay(trace, ["lru"], [0.1], rates=[100], baselines=True)


def test_replay_runs_are_independent(trace, tmp_path):
    settings = {"batch_size": 8, "embedding_dim": 4, "directory": tmp_path}
    together = replay(trace, ["lru", "clock"], [0.05, 0.2], **settings)
    alone = [
        replay(trace, [policy], [fraction], **settings)[0]
        for policy in ("lru", "clock")
        for fraction in (0.05, 0.2)
    ]
    assert [{f: r[f] for f in COUNTS} for r in together] == [
        {f: r[f] for f in COUNTS} for r in alone
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": ["opt"]}, "policy: opt needs future accesses"),
        ({"policies": ["lur"]}, "policy: expected one of lru, .*, got 'lur'"),
        ({"fast_fractions": [0]}, "fast_fraction: .* got 0"),
        ({"batch_size": 0}, "batch_size: expected at least 1 or 'row', got 0"),
        ({"batch_size": "all"}, "batch_size: .*, got 'all'"),
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"count_from": 1}, "count_from: .* got 1"),
        ({"count_from": 0.9999}, "count_from: no sample of trace 'small' begins at or after"),
        ({"engine": "steam"}, "engine: expected one of .*, got 'steam'"),
        ({"embedding_dim": 0}, "embedding_dim: expected 1 to 1048576, got 0"),
    ],
)
def test_replay_bad_argument_raises_and_leaves_no_file(trace, tmp_path, change, message):
    arguments = {"policies": ["lru"], "fast_fractions": [0.1], **change}
    with pytest.raises(ValueError, match=message):
        replay(trace, directory=tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_replay_interrupted_leaves_no_file(trace, tmp_path):
    class Interrupting:
        def __init__(self, label, total, unit):
            self.label = label

        def __enter__(self):
            return self.done

        def __exit__(self, *_):
            pass

        def done(self, count):
            if self.label.startswith("serving"):
                assert list(tmp_path.iterdir())
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(trace, ["lru"], [0.1], directory=tmp_path, progress=Interrupting, threads=2)
    assert not list(tmp_path.iterdir())


def test_replay_missing_directory_raises(trace, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        replay(trace, ["lru"], [0.1], directory=tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in caught.value.filename


def test_replay_real_trace_verifies_and_matches_simulate(tmp_path):
    trace = reference("trivago")
    (record,) = replay(trace, ["lru"], [0.05], verify=True, directory=tmp_path)
    warm_up = trace.sample_of_access(trace.num_lookups // 2)
    batches = -(-warm_up // 256) - (-(trace.num_samples - warm_up) // 256)
    assert record["verified"] == batches
    excerpt = trace.samples(0, 5000)
    (one_row,) = replay(excerpt, ["lru"], [0.05], batch_size="row", directory=tmp_path)
    (simulated,) = simulate(excerpt, ["lru"], [0.05])
    assert {f: one_row[f] for f in COUNTS} == {f: simulated[f] for f in COUNTS}
