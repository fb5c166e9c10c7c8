"""`ExternalModel`: decisions of a Python function, in the simulator and in a store."""

import threading
import time

import numpy as np
import priority_oracle
import pytest

from tieralloc._bindings import ExternalModel, Simulator

NONE = np.array([], dtype=np.uint64)


def rows(*numbers):
    return np.array(numbers, dtype=np.uint64)


def keep_none(accesses):
    return np.zeros(len(accesses), bool), NONE


def model_of(keep, prefetches, *, chunk, eviction_speed):
    """Return a model with fixed decisions, chunk after chunk."""
    decisions = iter(zip(np.reshape(keep, (-1, chunk)), prefetches, strict=True))
    return ExternalModel(lambda _: next(decisions), chunk=chunk, eviction_speed=eviction_speed)


def test_simulator_keeps_rows_and_prefetched_rows_hit():
    model = model_of([1, 0, 0, 0], [NONE, rows(5, 7)], chunk=2, eviction_speed=0)
    simulator = Simulator(model, 2, 10)
    simulator.run(rows(1, 2, 3, 1, 7))
    assert simulator.counts == {
        **{"calls": 5, "lookups": 5, "hits": 2, "on_demand_fetches": 3, "evictions": 3},
        **{"on_demand_device_reads": 3, "prefetch_device_reads": 2},
        **{"prefetches_issued": 2, "prefetches_useful": 1, "prefetches_late": 0},
        "prefetches_useless": 0,
    }


@pytest.mark.parametrize("chunk", [1, 4, 15])
@pytest.mark.parametrize("capacity", [1, 3, 30, 99, 200])
@pytest.mark.parametrize("eviction_speed", [0, 1, 4])
def test_simulator_counts_equal_a_naive_buffer(chunk, capacity, eviction_speed):
    rng = np.random.default_rng([chunk, capacity, eviction_speed])
    accesses = (rng.zipf(1.2, 1507) % 100).astype(np.uint64)
    chunks = len(accesses) // chunk
    keep = rng.random(chunks * chunk) < 0.5
    prefetches = [rng.integers(0, 100, rng.integers(0, 6)).astype(np.uint64) for _ in range(chunks)]
    model = model_of(keep, prefetches, chunk=chunk, eviction_speed=eviction_speed)
    count_from = 0 if capacity == 30 else int(rng.integers(500, 700))
    simulator = Simulator(model, capacity, 100, count_from=count_from)
    for part in np.split(accesses, [1, 100, 104, 900]):
        simulator.run(part)
    assert simulator.counts == priority_oracle.replay(
        accesses.tolist(),
        keep.tolist(),
        [rows.tolist() for rows in prefetches],
        chunk=chunk,
        capacity=capacity,
        eviction_speed=eviction_speed,
        count_from=count_from,
    )


def test_decide_gets_each_complete_chunk_once():
    chunks = []

    def decide(chunk):
        chunks.append(chunk.tolist())
        return keep_none(chunk)

    Simulator(ExternalModel(decide, chunk=3, eviction_speed=1), 4, 10).run(rows(*range(8)))
    assert chunks == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("decide", "message"),
    [
        (lambda chunk: (np.ones(1, bool), NONE), "decisions: expected 2, got 1"),
        (lambda chunk: (np.ones(2, bool), rows(10)), "expected rows below 10, got 10"),
        (lambda chunk: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda chunk: None, "TypeError"),
    ],
)
def test_run_decide_fails_raises_runtime_error(decide, message):
    simulator = Simulator(ExternalModel(decide, chunk=2, eviction_speed=1), 4, 10)
    with pytest.raises(RuntimeError, match=message):
        simulator.run(rows(1, 2))


def test_run_decide_interrupted_raises_keyboard_interrupt():
    def decide(chunk):
        raise KeyboardInterrupt

    simulator = Simulator(ExternalModel(decide, chunk=2, eviction_speed=1), 4, 10)
    with pytest.raises(KeyboardInterrupt):
        simulator.run(rows(1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eviction_speed": 255}, "eviction_speed: .* got 255"),
        ({"chunk": 0}, "chunk: expected at least 1 access, got 0"),
        ({"table_starts": [0, 11]}, "table 0: expected 11 rows, got 10"),
        ({"table_starts": [0, 8, 4]}, "table_starts: expected to ascend from 0"),
        ({"table_starts": [1, 10]}, "table_starts: expected to ascend from 0"),
    ],
)
def test_simulator_invalid_options_raises(change, message):
    options = {"chunk": 2, "eviction_speed": 1, **change}
    with pytest.raises(ValueError, match=message):
        Simulator(ExternalModel(keep_none, **options), 2, 10)


def test_simulator_max_bytes_limits_policy_and_model():
    model = ExternalModel(keep_none, chunk=2, eviction_speed=1, nbytes=100_000)
    policy_bytes = Simulator(model, 2, 10).policy_bytes
    assert policy_bytes > 100_000
    assert Simulator(model, 2, 10, max_bytes=policy_bytes).policy_bytes == policy_bytes
    message = f"memory: expected at least {policy_bytes} for a fast"
    with pytest.raises(ValueError, match=message):
        Simulator(model, 2, 10, max_bytes=policy_bytes - 1)


@pytest.mark.parametrize("in_background", [False, True])
def test_store_decide_gets_accesses_and_prefetches_rows(make_store, in_background):
    store = make_store(fast_rows=16)
    store.create_table("only", 100, 4)
    decided = threading.Event()

    def decide(chunk):
        decided.set()
        return np.ones(len(chunk), bool), chunk + np.uint64(50)

    model = ExternalModel(decide, chunk=2, eviction_speed=1, table_starts=[0, 100])
    use(store, model, in_background)
    store.embedding_bag(np.array([1, 2, 3]), np.array([0, 3]))
    if in_background:
        assert decided.wait(10)
        wait_until(lambda: store.stats().prefetches_issued == 2)
    else:
        assert store._core.step_policy() == 3
    store.embedding_bag(np.array([51, 52]), np.array([0, 2]))
    stats = store.stats()
    assert (stats.prefetches_issued, stats.prefetches_useful) == (2, 2)


def test_store_rows_are_numbered_across_tiers(make_store):
    """Tables of two dims are in two tiers; decisions use row numbers across all tables."""
    store = make_store(fast_rows=32)
    for name, count, dim in (("a", 10, 4), ("b", 20, 32), ("c", 30, 4)):
        store.create_table(name, count, dim)
    accesses = []

    def decide(chunk):
        accesses.extend(chunk.tolist())
        return np.ones(len(chunk), bool), chunk + np.uint64(1)

    starts = [0, 10, 30, 60]
    model = ExternalModel(decide, chunk=1, eviction_speed=1, table_starts=starts, nbytes=60_000)
    use(store, model, in_background=False)
    assert 60_000 <= store.stats().dram.policy_bytes < 100_000
    for name, row in (("a", 9), ("b", 19), ("c", 5)):
        store.table(name).lookup(np.array([row]))
    store._core.step_policy()
    assert sorted(accesses) == [9, 29, 35]
    # Of the prefetches 10, 30 and 36, the first two are rows of tables in another tier.
    assert store.stats().prefetches_issued == 1
    store.table("c").lookup(np.array([6]))
    assert store.stats().prefetches_useful == 1


def test_store_decide_fails_switches_to_simple_policy(make_store):
    store = make_store(fast_rows=4)
    store.create_table("only", 100, 4)
    model = ExternalModel(lambda chunk: 1 / 0, chunk=1, eviction_speed=1)
    use(store, model, in_background=True)
    store.embedding_bag(np.arange(50), np.array([0, 50]))
    wait_until(lambda: store._core.policy_stats()["state"] != "running")
    stats = store._core.policy_stats()
    assert stats["state"] == "failed"
    assert "ZeroDivisionError" in stats["reason"]
    store.embedding_bag(np.arange(50), np.array([0, 50]))
    assert store.stats().evictions > 0


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def use(store, model, in_background):
    store._core.use_planned(
        model,
        "s3fifo",
        pauses=False,
        in_background=in_background,
        max_bytes=0,
        prefetch_cost=0.0,
        selects=True,
    )
