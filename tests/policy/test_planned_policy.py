"""Learned policies in a store: their tables, options, errors and counts."""

import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from support import numbered_rows

pytest.importorskip("torch")

from tieralloc.policies.registry import trainer

from tieralloc import LearnedPolicy, TieredStore
from tieralloc.policy.planned import load_planned
from tieralloc.policy.registry import with_learned
from tieralloc.tools.simulate import simulate
from tieralloc.trace import Trace

TABLES = {"a": 6000, "b": 2000}
DIM = 4
FRACTION = 0.1
POLICIES = ("recmg-caching", "recmg", "recmg-paper")
COUNTS = (
    *("calls", "lookups", "hits", "on_demand_fetches", "evictions"),
    *("prefetches_issued", "prefetches_useful", "prefetches_late"),
    *("on_demand_device_reads", "prefetch_device_reads"),
)


def phrases(num_accesses, seed=0):
    """Return a stream of rows of all tables in parts: recurring sequences and single rows."""
    rows, num_sequences = sum(TABLES.values()), 1500
    rng = np.random.default_rng(0)
    sequences = [rng.choice(rows, rng.integers(3, 8), replace=False) for _ in range(num_sequences)]
    rng = np.random.default_rng(seed)
    parts, remaining = [], num_accesses
    while remaining > 0:
        is_sequence = rng.random() < 0.7
        part = sequences[rng.integers(num_sequences)] if is_sequence else rng.integers(0, rows, 1)
        parts.append(part[:remaining])
        remaining -= len(parts[-1])
    return parts


def trace_of(samples, name):
    """Return a trace of samples of rows numbered across the tables, sorted within each sample."""
    sample_of_row = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    rows = np.concatenate(samples)
    table_of_row = (rows >= TABLES["a"]).astype(int)
    lengths = np.zeros((2, len(samples)), dtype=np.int32)
    np.add.at(lengths, (table_of_row, sample_of_row), 1)
    order = np.lexsort((rows, sample_of_row, table_of_row))
    indices = rows - table_of_row * TABLES["a"]
    return Trace.from_lengths(indices[order], lengths, list(TABLES), list(TABLES.values()), name)


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """Return the directory of each learned policy, by name."""
    folder = tmp_path_factory.mktemp("policies")
    trace = trace_of(phrases(20000), "phrases")
    for name in ("recmg", "recmg-paper"):
        trainer(name)(trace, folder / name, [FRACTION], epochs=2, seed=1)
    return {name: folder / name.removesuffix("-caching") for name in POLICIES}


@pytest.fixture
def recmg(directories):
    return f"recmg:{directories['recmg']}"


def fill(store, tables=TABLES):
    for name, rows in tables.items():
        store.create_table(name, rows, DIM)


def policy_stats(store):
    return store.stats().policy_stats


def state_of(store):
    return policy_stats(store).state


@pytest.mark.parametrize("name", POLICIES)
def test_policy_of_its_tables_runs(make_store, directories, name):
    policy = LearnedPolicy(directories[name], name=name, auto_pause=False)
    store = make_store(fast_rows=50, policy=policy)
    fill(store)
    for row in range(200):
        store.table("a").lookup(np.array([row]))
    deadline = time.monotonic() + 20
    while policy_stats(store).accesses_observed < 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stats = policy_stats(store)
    assert store.stats().policy == f"{name}:{directories[name]}"
    assert (stats.state, stats.reason, stats.fallback) == ("running", "", "s3fifo")
    assert (stats.accesses_observed, store.stats().lookup.accesses_dropped) == (200, 0)
    assert (stats.steps > 0, stats.cpu_seconds > 0, stats.pauses) == (True, True, 0)
    assert stats.policy_lag.mean <= stats.policy_lag.max <= 200
    assert len(stats.tiers) == (0 if name == "recmg-paper" else 1)
    assert store.stats().dram.policy_bytes > 0
    assert store.stats().dram.access_ring_bytes > 0


def test_policy_waits_until_store_has_its_tables(make_store, recmg):
    store = make_store(fast_rows=50, policy=recmg)
    assert state_of(store) == "waiting"
    assert "differ from those of the training trace" in policy_stats(store).reason
    store.create_table("a", TABLES["a"], DIM)
    assert state_of(store) == "waiting"
    store.create_table("b", TABLES["b"], DIM)
    assert state_of(store) == "running"
    store.create_table("c", 10, DIM)
    assert state_of(store) == "waiting"
    assert store.table("b").lookup(np.array([5])).shape == (1, DIM)


def test_create_table_of_other_name_raises_before_it_exists(make_store, recmg):
    store = make_store(fast_rows=50, policy=recmg)
    store.create_table("a", TABLES["a"], DIM)
    with pytest.raises(ValueError, match="expected a table 'b' of 2000 rows or more as table 1"):
        store.create_table("item", TABLES["b"], DIM)
    assert list(store.tables) == ["a"]


@pytest.mark.parametrize(("name", "state"), [("recmg", "running"), ("recmg-paper", "waiting")])
def test_policy_goes_on_in_a_grown_table_if_it_knows_no_row_by_number(
    make_store, directories, name, state
):
    store = make_store(fast_rows=50, policy=f"{name}:{directories[name]}")
    fill(store)
    assert state_of(store) == "running"
    store.table("a").resize(2 * TABLES["a"])
    assert state_of(store) == state
    store.table("b").lookup(np.arange(100))
    store.table("a").lookup(np.arange(TABLES["a"], TABLES["a"] + 100))


def test_table_beyond_the_policys_is_logged(make_store, recmg, caplog):
    store = make_store(fast_rows=50, policy=recmg)
    fill(store)
    assert not caplog.records
    store.create_table("c", 10, DIM)
    (record,) = caplog.records
    assert record.tieralloc == {
        "event": "policy_stopped",
        "store": store.stats().slow_tier.path,
        "policy": recmg,
        "reason": "the tables of the store differ from those of the training trace",
        "fallback": "s3fifo",
    }


def test_open_file_of_other_tables_raises(make_store, recmg):
    store = make_store()
    fill(store, {"user": TABLES["a"]})
    path = store.stats().slow_tier.path
    store.close()
    with pytest.raises(ValueError, match="expected a table 'a' of 6000 rows or more as table 0"):
        make_store.open(path, fast_rows=50, policy=recmg)


def test_open_with_policy_starts_it(make_store, recmg):
    store = make_store()
    fill(store)
    path = store.stats().slow_tier.path
    store.close()
    reopened = make_store.open(path, fast_rows=50, policy=recmg)
    assert state_of(reopened) == "running"


def test_use_policy_of_other_tables_raises(make_store, recmg):
    store = make_store(policy="lru")
    fill(store, {"a": TABLES["a"], "b": TABLES["b"] - 1})
    with pytest.raises(ValueError, match="b"):
        store.use_policy(recmg)
    assert (store.stats().policy, policy_stats(store)) == ("lru", None)
    store.table("a").lookup(np.arange(100))


def test_use_policy_fails_keeps_learned_policy(make_store, recmg, directories, tmp_path):
    store = make_store(fast_rows=50)
    fill(store)
    store.use_policy(recmg)
    for policy, message in (
        (LearnedPolicy(directories["recmg"], memory=1), "memory: expected at least"),
        (LearnedPolicy(tmp_path), "manifest.json"),
        (f"recmg:{tmp_path}", "manifest.json"),
        ("recmgg:x", "policy: unknown learned policy 'recmgg'"),
        ("fifo", "policy: expected one of lru, .*, got 'fifo'"),
    ):
        with pytest.raises(ValueError, match=message):
            store.use_policy(policy)
        assert store.stats().policy == recmg
        assert state_of(store) == "running"


def test_use_policy_simple_stops_learned_policy(make_store, recmg):
    store = make_store(fast_rows=50, policy=recmg)
    fill(store)
    store.table("a").lookup(np.arange(40))
    store.use_policy("lru")
    assert (store.stats().policy, policy_stats(store)) == ("lru", None)
    assert store.stats().fast_tier.resident_rows == 40
    assert store.stats().dram.policy_bytes == 0
    store.use_policy(recmg)
    assert (store.stats().fast_tier.resident_rows, state_of(store)) == (40, "running")


@pytest.mark.parametrize("name", POLICIES)
def test_policy_memory_below_the_need_is_refused_with_it(make_store, directories, name):
    policy = LearnedPolicy(directories[name], name=name, memory=1000)
    store = make_store(fast_rows=50)
    fill(store)
    with pytest.raises(ValueError, match="memory: expected at least") as caught:
        store.use_policy(policy)
    need = int(str(caught.value).partition("at least ")[2].partition(" ")[0])
    with pytest.raises(ValueError, match=f"expected at least {need} "):
        store.use_policy(replace(policy, memory=need - 1))
    store.use_policy(replace(policy, memory=need))
    assert need * 0.9 <= store.stats().dram.policy_bytes <= need


def test_open_with_too_little_policy_memory_closes_the_file(make_store, directories):
    store = make_store()
    fill(store)
    path = store.stats().slow_tier.path
    store.close()
    with pytest.raises(ValueError, match="memory: expected at least") as caught:
        TieredStore(path, fast_rows=50, policy=LearnedPolicy(directories["recmg"], memory=1000))
    again = make_store.open(path, fast_rows=50)
    assert caught.traceback  # which holds the store that failed
    assert list(again.tables) == list(TABLES)


def test_create_table_with_too_little_policy_memory_falls_back(make_store, directories, recmg):
    store = make_store(fast_rows=50, policy=LearnedPolicy(directories["recmg"], memory=1000))
    store.create_table("a", TABLES["a"], DIM)
    with pytest.raises(ValueError, match="memory: expected at least"):
        store.create_table("b", TABLES["b"], DIM)
    assert list(store.tables) == list(TABLES)
    assert (store.stats().policy, policy_stats(store)) == ("s3fifo", None)
    store.use_policy(recmg)
    assert state_of(store) == "running"


@pytest.mark.parametrize("cost", [-0.01, 1.01, 2, float("nan")])
def test_prefetch_cost_outside_0_to_1_is_refused(cost):
    with pytest.raises(ValueError, match="prefetch_cost: expected 0 to 1"):
        LearnedPolicy("policy_dir", prefetch_cost=cost)


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"memory": "much"}, ValueError, "memory: expected bytes, or a size as .* got 'much'"),
        ({"memory": 0}, ValueError, "memory: expected at least 1 byte, got 0"),
        ({"memory": 1.5}, TypeError, "memory: expected int or str, got float"),
        ({"auto_pause": 1}, TypeError, "auto_pause: expected a bool, got 1"),
    ],
)
def test_learned_policy_checks_its_arguments(options, kind, says):
    with pytest.raises(kind, match=says):
        LearnedPolicy("policy_dir", **options)


@pytest.mark.parametrize("options", [{"auto_pause": False}, {"prefetch_cost": 0}, {}])
def test_use_policy_takes_options(make_store, directories, options):
    store = make_store(fast_rows=50)
    fill(store)
    store.use_policy(LearnedPolicy(directories["recmg"], memory="1MiB", **options))
    assert state_of(store) == "running"


@pytest.mark.parametrize("name", ["recmg", "recmg-paper"])
def test_policy_without_a_name_is_the_one_of_the_manifest(make_store, directories, name):
    store = make_store(fast_rows=50, policy=LearnedPolicy(directories[name]))
    assert store.stats().policy == f"{name}:{directories[name]}"
    store.use_policy("lru")
    fill(store)
    store.use_policy(LearnedPolicy(str(directories[name])))
    assert store.stats().policy == f"{name}:{directories[name]}"


@pytest.mark.parametrize(
    ("name", "place"),
    [("policy_bytes", "memory"), ("auto_pause", "auto_pause"), ("prefetch_cost", "prefetch_cost")],
)
def test_use_policy_names_the_place_of_former_options(make_store, name, place):
    store = make_store()
    with pytest.raises(TypeError, match=rf"^{name}=: .*LearnedPolicy\(directory, {place}="):
        store.use_policy("lru", **{name: 1})


def test_recorder_and_policy_both_get_every_access(make_store, directories):
    store = make_store(fast_rows=50)
    fill(store)
    table = store.table("a")
    with store.record() as recorder:
        for row in range(10):  # before the policy
            table.lookup([row])
        store.use_policy(LearnedPolicy(directories["recmg"], auto_pause=False))
        for row in range(10, 150):
            table.lookup([row])
        deadline = time.monotonic() + 20
        while policy_stats(store).accesses_observed < 140:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert policy_stats(store).accesses_observed == 140
        store.use_policy("lru")
        table.lookup([150])
    table.lookup([151])
    assert recorder.to_trace(require_complete=True).indices.tolist() == list(range(151))
    assert store.stats().dram.access_ring_bytes == 0


def test_use_policy_while_serving_returns_correct_rows(make_store, directories):
    store = make_store(fast_rows=100)
    fill(store)
    values = {}
    for table in store.tables.values():
        values[table.name] = numbered_rows(table.num_embeddings, DIM, first=len(values) * 10000)
        table.load(values[table.name])
    stop = threading.Event()
    errors, calls = [], [0] * 3

    def serve(number):
        rng = np.random.default_rng(number)
        while not stop.is_set():
            for name, rows in values.items():
                indices = np.minimum(rng.zipf(1.2, 50), len(rows)) - 1
                if not np.array_equal(store.table(name).lookup(indices), rows[indices]):
                    errors.append((name, indices))
            calls[number] += 1

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for name in ("lru", *POLICIES, "s3fifo", *reversed(POLICIES)):
            policy = f"{name}:{directories[name]}" if name in directories else name
            before = list(calls)
            learned = name in directories
            store.use_policy(
                LearnedPolicy(directories[name], name=name, auto_pause=False) if learned else name
            )
            assert store.stats().policy == policy
            deadline = time.monotonic() + 20
            while min(now - was for now, was in zip(calls, before, strict=True)) < 10:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            if policy != name:
                assert state_of(store) == "running"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors


def stepped_counts(store, policy, calls):
    """Return the counts of a store after these calls, with one policy step after each."""
    fill(store)
    if ":" in policy:
        planned = replace(load_planned(policy), auto_pause=False, in_background=False)
        planned.start(store._core, list(TABLES.items()))
    else:
        store.use_policy(policy)
    for call in calls:
        store.embedding_bag(*call)
        if ":" in policy:
            assert store._core.step_policy() == len(call[0])
    stats = store.stats()
    return {name: getattr(stats, name) for name in COUNTS}


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("fraction", [0.02, FRACTION, 0.4])
@pytest.mark.parametrize("name", ["lru", "s3fifo", *POLICIES])
def test_stepped_store_counts_equal_simulate(make_store, directories, name, fraction, batch_size):
    trace = trace_of(phrases(12000, seed=2), "phrases")
    policy = f"{name}:{directories[name]}" if name in directories else name
    (simulated,) = simulate(
        *(trace, with_learned([policy]), [fraction]),
        **{"count_from": 0, "batch_size": batch_size, "embedding_dim": DIM},
    )
    store = make_store(fast_rows=simulated["fast_rows"])
    counts = stepped_counts(store, policy, trace.batches(batch_size))
    assert counts == {name: simulated[name] for name in COUNTS}
    assert (counts["prefetches_useful"] > 0) == (name in ("recmg", "recmg-paper"))


@pytest.mark.parametrize("name", ["lru", "s3fifo", *POLICIES])
def test_store_stepped_per_access_counts_equal_simulate(make_store, directories, name):
    accesses = np.concatenate(phrases(3000, seed=2))
    trace = trace_of(accesses.reshape(-1, 1), "one access a sample")
    assert np.array_equal(trace.accesses(), accesses)
    policy = f"{name}:{directories[name]}" if name in directories else name
    (simulated,) = simulate(
        trace, with_learned([policy]), [FRACTION], count_from=0, embedding_dim=DIM
    )
    store = make_store(fast_rows=simulated["fast_rows"])
    counts = stepped_counts(store, policy, trace.batches(1))
    assert counts == {name: simulated[name] for name in COUNTS}


def test_use_policy_in_forked_child_raises(make_store, recmg):
    store = make_store(fast_rows=50, policy=recmg)
    fill(store)
    child = os.fork()
    if child == 0:
        try:
            store.use_policy("lru")
        except ValueError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state_of(store) == "running"
