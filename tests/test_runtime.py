"""The policy runtime on real stores: what it decides, what it tells, and what it survives."""

import gc
import logging
import os
import threading
import time

import numpy as np
import pytest

import tieralloc as ta
from tieralloc import _worth
from tieralloc._advising import simulate_advised
from tieralloc.replay import replay

torch = pytest.importorskip("torch")

from runtime_support import (  # noqa: E402
    Broken,
    brain_of,
    least_frequent,
    least_recent,
    most_recent,
    write_counting_policy,
)

from tieralloc.policies import registry  # noqa: E402
from tieralloc.runtime import PolicyRuntime  # noqa: E402

TABLES = [("a", 3000), ("b", 3000)]
ROWS = 6000


def wait_for(condition):
    """Wait for what another thread brings about."""
    while not condition():
        time.sleep(0.002)


@pytest.fixture(scope="module")
def trace():
    return ta.trace.generate(
        num_tables=2, num_embeddings=[3000, 3000], num_samples=2500, mean_pooling_factor=6, seed=4
    )


@pytest.fixture
def counting(monkeypatch):
    """Have stores know policy "counting"."""
    monkeypatch.setitem(registry._SERVED_BY, "counting", ("runtime_support", "make_brain"))


def add_tables(store):
    for name, rows in TABLES:
        store.create_table(name, rows, 4)
    return store


@pytest.fixture
def store(make_store):
    return add_tables(make_store(fast_rows=300, policy="s3fifo"))


def serve(store, trace, batch=4):
    for indices, offsets in trace.batches(batch):
        store.embedding_bag(indices, offsets)


def runtime_of(store):
    return store.stats()["policy_runtime"]


def serve_until(store, trace, state):
    """Serve until the runtime is in a state; serving goes on meanwhile without an error."""
    while runtime_of(store)["state"] != state:
        serve(store, trace.samples(0, 200))


def test_without_a_learned_policy_there_is_no_runtime(store):
    assert store.stats()["policy_runtime"] is None


def test_it_observes_what_is_served_and_decides_who_leaves(store, trace):
    store.use_policy(least_recent(ROWS), policy_rests=False)
    threads = 0
    while threads < 3 or store.stats()["advised_evictions"] == 0:
        serve(store, trace)
        threads += 1
    wait_for(
        lambda: (
            (found := runtime_of(store))["accesses_observed"] + found["accesses_dropped"]
            == store.stats()["lookups"]
        )
    )
    stats = store.stats()
    runtime = stats["policy_runtime"]
    assert stats["policy"] == "ScriptedBrain"
    assert runtime["state"] == "running"
    assert runtime["reason"] == ""
    assert runtime["observed_share"] == pytest.approx(
        runtime["accesses_observed"] / stats["lookups"]
    )
    assert runtime["advised_evictions"] + runtime["fallback_evictions"] == stats["evictions"]
    assert runtime["advised"] >= runtime["advised_evictions"] > 0
    assert runtime["decisions"] >= runtime["advised"]
    assert runtime["steps"] > 0
    assert runtime["model_seconds"] > 0
    assert runtime["accesses_per_second"] > 0
    assert 0 < runtime["policy_lag"]["mean"] <= runtime["policy_lag"]["max"]
    assert set(runtime["guard"]["miss_ratios"]) == {"ScriptedBrain", "s3fifo", "lru", "sieve"}


class Remembering:
    """Says how much it remembers, and decides nothing much."""

    nbytes = 12345

    def observe(self, rows, lengths):
        pass

    def score(self, rows):
        return np.zeros(len(rows), dtype=np.float32)


def test_what_a_learned_policy_takes_of_dram_is_told_until_it_goes(store, trace):
    def told():
        dram = store.stats()["dram_bytes"]
        assert dram["total"] == sum(size for use, size in dram.items() if use != "total")
        return {use: dram[use] for use in ("history", "guard", "advice", "access_rings")}

    assert set(told().values()) == {0}
    store.use_policy(Remembering(), policy_rests=False)
    while store.stats()["advised_evictions"] == 0:
        serve(store, trace)
    found = told()
    assert found["history"] == 12345
    assert found["guard"] > 4 * 300 * 8
    assert found["advice"] > 300 / 8 * 8
    assert found["access_rings"] >= 1 << 20
    store.use_policy("lru")
    assert {**told(), "advice": 0} == dict.fromkeys(found, 0)


def agreement(make_store, trace, brain, batch, keeping_pace_every):
    """On-demand fetches of a store and of a simulated tier, whose runtimes step alike."""
    store = add_tables(make_store(fast_rows=300, policy="random"))
    runtime = PolicyRuntime(
        store._core, brain(), policy="p", fallback="random", guarded=False, ring=1 << 16
    )
    for number, (indices, offsets) in enumerate(trace.batches(batch)):
        store.embedding_bag(indices, offsets)
        if number % keeping_pace_every == keeping_pace_every - 1:
            runtime.step()
    stats = store.stats()
    assert stats["accesses_dropped"] == 0
    assert stats["advised_evictions"] > 0.9 * stats["evictions"]
    lengths = trace.lengths.sum(axis=0).astype(np.uint32)
    step = batch * keeping_pace_every * int(lengths.mean())
    simulated = simulate_advised(
        trace.accesses(), lengths, 300, brain(), fallback="random", step=step
    )
    return stats["on_demand_fetches"], simulated["on_demand_fetches"]


@pytest.mark.parametrize("brain", [least_recent, least_frequent])
def test_keeping_pace_a_store_fetches_what_the_simulator_says(make_store, trace, brain):
    found, expected = agreement(make_store, trace, lambda: brain(ROWS), 1, 4)
    assert abs(found / expected - 1) < 0.02


class Popular:
    """Lets the least recent leave, and has those of the rows accessed most that left come back."""

    def __init__(self):
        self._inner = least_recent(ROWS)
        self._counts = np.zeros(ROWS)
        self.looks_ahead = True
        self.chosen = 0

    def observe(self, rows, lengths):
        self._inner.observe(rows, lengths)
        np.add.at(self._counts, rows, 1)

    def score(self, rows):
        return self._inner.score(rows)

    def prefetches(self, find_absent):
        most = np.argsort(-self._counts, kind="stable")[:400].astype(np.uint64)
        rows = most[find_absent(most)][:4]
        self.chosen += len(rows)
        return rows


def test_keeping_pace_a_store_fetches_ahead_what_the_simulator_does(make_store, trace):
    store = add_tables(make_store(fast_rows=300, policy="random"))
    brain = Popular()
    runtime = PolicyRuntime(
        store._core, brain, policy="p", fallback="random", guarded=False, ring=1 << 16
    )

    def placed():
        stats = store.stats()
        return stats["resident_rows"] + stats["evictions"] + stats["bypassed"]

    for indices, offsets in trace.batches(1):
        store.embedding_bag(indices, offsets)
        before, chosen = placed(), brain.chosen
        runtime.step()
        arrived = before + brain.chosen - chosen
        wait_for(lambda arrived=arrived: placed() == arrived)
    stats = store.stats()
    lengths = trace.lengths.sum(axis=0).astype(np.uint32)
    simulated = simulate_advised(
        trace.accesses(), lengths, 300, Popular(), fallback="random", step=1
    )
    assert stats["prefetches_issued"] == brain.chosen
    assert stats["prefetches_late"] == 0
    for name in ("on_demand_fetches", "prefetches_issued"):
        assert abs(stats[name] / simulated[name] - 1) < 0.02
    # These are few, and both draw at random who leaves.
    assert abs(stats["prefetches_useful"] / simulated["prefetches_useful"] - 1) < 0.25


class Overtaken:
    """While it takes note of accesses, further ones are served."""

    def __init__(self, serve_more):
        self.brain = least_recent(ROWS)
        self.known = set()
        self.strangers = set()
        self.serve_more = serve_more

    def observe(self, rows, lengths):
        self.known.update(rows.tolist())
        self.brain.observe(rows, lengths)
        self.serve_more()

    def score(self, rows):
        self.strangers |= set(rows.tolist()) - self.known
        return self.brain.score(rows)


def test_no_row_is_judged_before_its_first_access_was_observed(store):
    table = store.table("a")
    rows = iter(range(3000))
    brain = Overtaken(lambda: table.lookup([next(rows) for _ in range(10)]))
    runtime = PolicyRuntime(store._core, brain, policy="p", fallback="s3fifo", guarded=False)
    table.lookup([next(rows) for _ in range(400)])
    for _ in range(50):
        runtime.step()
    assert brain.strangers == set()
    # Advice on rows that have left meanwhile would keep other advice out.
    stats = store.stats()
    assert stats["advised_evictions"] > 0.9 * (stats["evictions"] - 100)


def test_a_policy_directory_is_served_once_its_tables_are_there(make_store, counting, folder):
    write_counting_policy(folder / "policy", TABLES, fallback="sieve")
    store = make_store(fast_rows=300, policy=f"counting:{folder / 'policy'}")
    store.create_table("a", 3000, 4)
    waiting = runtime_of(store)
    assert waiting["state"] == "waiting"
    assert waiting["in_charge"] == waiting["fallback"] == "sieve"
    assert "is for 2 tables, got 1" in waiting["reason"]
    store.create_table("b", 3000, 4)
    assert runtime_of(store)["state"] == "running"
    store.table("a").lookup([1, 2, 3])
    wait_for(lambda: runtime_of(store)["accesses_observed"] == 3)
    store.create_table("c", 10, 4)
    assert runtime_of(store)["state"] == "waiting"
    assert store.stats()["policy"] == f"counting:{folder / 'policy'}"
    assert len(store.table("a").lookup([1])) == 1


def test_an_opened_store_runs_its_policy_at_once(make_store, counting, folder):
    write_counting_policy(folder / "policy", TABLES)
    path = folder / "s.tier"
    with ta.TieredStore(path, fast_rows=300) as made:
        add_tables(made)
    policy = f"counting:{folder / 'policy'}"
    with ta.TieredStore.open(path, fast_rows=300, policy=policy) as store:
        assert runtime_of(store)["state"] == "running"
        assert runtime_of(store)["fallback"] == "s3fifo"
    names = {thread.name for thread in threading.enumerate()}
    assert not any(name.startswith("tieralloc-policy") for name in names)


def test_a_policy_that_does_not_fit_is_refused_and_the_former_one_goes_on(
    make_store, store, counting, folder
):
    write_counting_policy(folder / "other", [("a", 3000), ("b", 2999)])
    write_counting_policy(folder / "named", TABLES, policy="something")
    write_counting_policy(folder / "fallback", TABLES, fallback="none")
    for policy, message in {
        "no such": "policy 'no such' is unknown; known are lru",
        f"unknown:{folder}": "learned policy 'unknown' cannot be served",
        f"counting:{folder / 'other'}": "'b' of 2999 rows as number 1",
        f"counting:{folder / 'named'}": "holds policy 'something', expected 'counting'",
        f"counting:{folder / 'fallback'}": "falls back to policy 'none'",
        f"counting:{folder}": "is no policy directory",
    }.items():
        with pytest.raises(ValueError, match=message):
            store.use_policy(policy)
    with pytest.raises(FileNotFoundError):
        store.use_policy(f"counting:{folder / 'absent'}")
    with pytest.raises(TypeError, match="policy is a int"):
        store.use_policy(3)
    assert store.stats()["policy"] == "s3fifo"
    assert store.stats()["policy_runtime"] is None
    with pytest.raises(ValueError, match="is no policy directory"):
        make_store(fast_rows=300, policy=f"counting:{folder}")
    with pytest.raises(ValueError, match="no tables yet"):
        make_store(fast_rows=300).use_policy(least_recent(ROWS))


def test_a_trace_is_replayed_with_a_learned_policy(trace, counting, folder):
    tables = list(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True))
    write_counting_policy(folder / "policy", tables, fallback="lru")
    policies = ["lru", f"counting:{folder / 'policy'}"]
    simple, learned = replay(trace, policies, [0.1], batch_size=4, verify=True, directory=folder)
    assert learned["policy"] == "counting"
    assert learned["lookups"] == simple["lookups"]
    assert learned["policy_runtime"]["state"] == "running"
    assert learned["policy_runtime"]["accesses_observed"] > 0
    assert "policy_runtime" not in simple
    with pytest.raises(ValueError, match="is no policy directory"):
        replay(trace, [f"counting:{folder}"], [0.1], directory=folder)
    with pytest.raises(ValueError, match=r"'lur' is unknown; known are lru, .*counting:DIR"):
        replay(trace, ["lur"], [0.1], directory=folder)


def test_the_log_and_the_runtime_take_turns(store):
    with store.access_log(), pytest.raises(RuntimeError, match="access log"):
        store.use_policy(least_recent(ROWS))
    store.use_policy(least_recent(ROWS))
    with pytest.raises(RuntimeError, match="use a simple policy first"), store.access_log():
        pass
    store.use_policy("lru")
    with store.access_log() as log:
        store.table("a").lookup([1])
        assert log.drain().tolist() == [1]


def test_policies_are_swapped_while_serving_and_no_lookup_fails(store, trace):
    stop = threading.Event()
    failures = []

    def go_on(batch):
        try:
            while not stop.is_set():
                serve(store, trace.samples(0, 300), batch)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=go_on, args=(batch,)) for batch in (1, 16)]
    for thread in threads:
        thread.start()
    policies = ["lru", least_recent(ROWS), least_frequent(ROWS), "s3fifo", most_recent(ROWS), "lfu"]
    for policy in policies * 3:
        store.use_policy(policy)
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.stats()["policy"] == "lfu"
    assert store.stats()["policy_runtime"] is None


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises", "a model's own mistake"),
        ("nan", "scores are NaN"),
        ("shape", "scores have shape"),
        ("integers", "scores are int64"),
    ],
)
def test_a_broken_model_leaves_the_simple_policy_in_charge(store, trace, caplog, how, reason):
    store.use_policy(brain_of(Broken(how), ROWS), policy_rests=False)
    with caplog.at_level(logging.WARNING, logger="tieralloc"):
        serve_until(store, trace, "failed")
    assert [reason in record.message for record in caplog.records] == [True]
    found = runtime_of(store)
    assert reason in found["reason"]
    assert "\n" not in found["reason"]
    assert found["in_charge"] == found["fallback"]
    assert found["fallbacks"] == 1
    before = store.stats()
    serve(store, trace)
    after = store.stats()
    assert after["evictions"] > before["evictions"]
    assert after["advised_evictions"] == before["advised_evictions"]
    assert after["dram_bytes"]["access_rings"] == 0
    store.use_policy(least_recent(ROWS))  # and another one may try
    assert runtime_of(store)["state"] == "running"
    assert runtime_of(store)["fallbacks"] == 0


class Hanging:
    """Hangs in a call until it is let go."""

    def __init__(self):
        self.brain = least_recent(ROWS)
        self.reached = threading.Event()
        self.let_go = threading.Event()
        self.hangs = True

    def observe(self, rows, lengths):
        self.brain.observe(rows, lengths)

    def score(self, rows):
        if self.hangs:
            self.reached.set()
            self.let_go.wait()
        return self.brain.score(rows)


def test_a_hanging_model_leaves_the_simple_policy_in_charge_until_it_comes_back(
    store, trace, caplog
):
    brain = Hanging()
    runtime = PolicyRuntime(
        store._core, brain, policy="p", fallback="s3fifo", guarded=False, deadline=0.2
    )
    store._runtimes.append(runtime)
    with caplog.at_level(logging.WARNING, logger="tieralloc"):
        runtime.start()
        serve_until(store, trace, "stalled")
    assert brain.reached.is_set()
    assert [record.message for record in caplog.records] == [
        "policy p: no progress for 0.2 s; s3fifo decides instead"
    ]
    assert runtime_of(store)["in_charge"] == "s3fifo"
    assert store.stats()["advised_evictions"] == 0
    brain.hangs = False
    brain.let_go.set()
    serve_until(store, trace, "running")
    while store.stats()["advised_evictions"] == 0:
        serve(store, trace)


def test_a_step_that_was_held_up_is_not_followed_by_as_long_a_rest(store):
    class HeldUp:
        """Waits, as if the process were halted, and computes next to nothing."""

        def observe(self, rows, lengths):
            time.sleep(0.2)

        def score(self, rows):
            return np.zeros(len(rows), dtype=np.float32)

    runtime = PolicyRuntime(
        store._core, HeldUp(), policy="p", fallback="s3fifo", guarded=False, cpu_share=0.005
    )
    pauses = []

    class Ending(threading.Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            return len(pauses) > 1

    runtime._ending = Ending()
    store.tables["a"].lookup(np.arange(100))
    thread = threading.Thread(target=runtime._run)  # whose priority it lowers
    thread.start()
    thread.join()
    runtime.stop()
    # By the clock it would be 0.2 s / 0.005 = 40 s; of CPU time it took some milliseconds at most.
    assert pauses[1] < 20


def test_a_store_is_closed_and_its_policy_swapped_while_a_model_hangs(store, trace):
    brain = Hanging()
    store.use_policy(brain, policy_rests=False)
    while not brain.reached.is_set():
        serve(store, trace)
    store._runtimes[0].stop(timeout=0.01)
    store.use_policy("lru")
    brain.let_go.set()
    serve(store, trace)
    assert store.stats()["advised_evictions"] == 0
    store.close()


def test_a_store_that_is_forgotten_ends_its_runtime(folder):
    store = add_tables(ta.TieredStore(folder / "forgotten.tier", fast_rows=10))
    store.use_policy(least_recent(ROWS))
    threads = store._runtimes[0]._threads
    del store
    gc.collect()  # it and its tables know each other
    wait_for(lambda: not any(thread.is_alive() for thread in threads))
    ta.TieredStore.open(folder / "forgotten.tier", fast_rows=10).close()


def test_torch_keeps_its_threads(store):
    before = torch.get_num_threads()
    store.use_policy(least_recent(ROWS))
    found = []
    asks = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    asks.start()
    asks.join()
    assert [torch.get_num_threads(), *found] == [before, before]


def test_the_runtime_serves_after_those_who_serve(store):
    store.use_policy(least_recent(ROWS))
    runtime = store._runtimes[0]._threads[0]
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, runtime.native_id) == max(own, 10)


class Foreseeing:
    """Foresees that after each row the next one comes."""

    def __init__(self):
        self.looks_ahead = True
        self.last = np.empty(0, dtype=np.uint64)

    def observe(self, rows, lengths):
        self.last = rows

    def score(self, rows):
        return np.zeros(len(rows), dtype=np.float32)

    def prefetches(self, find_absent):
        return np.minimum(self.last + np.uint64(1), np.uint64(ROWS - 1))


def test_rows_foreseen_are_fetched_ahead_once_that_is_seen_to_pay(store):
    runtime = PolicyRuntime(store._core, Foreseeing(), policy="p", fallback="lru")
    store._runtimes.append(runtime)
    table = store.table("b")
    figures = {"prefetching": False}
    first = 0
    while not figures["prefetching"]:
        assert store.stats()["prefetches_issued"] == 0
        table.lookup([first])
        runtime.step()
        figures = store.stats()["policy_runtime"]["guard"]
        first += 1
    assert figures["prefetching_miss_ratio"] < figures["miss_ratios"]["p"]
    assert figures["prefetching_switches"] == 1
    wait_for(lambda: store.stats()["prefetches_issued"] == 1)
    placed = store.stats
    wait_for(lambda: placed()["resident_rows"] + placed()["evictions"] == first + 1)
    table.lookup([first])
    assert store.stats()["prefetches_useful"] == 1


@pytest.fixture
def short_windows(monkeypatch):
    """Have policies judged often, and rest for little."""
    monkeypatch.setattr(_worth, "WINDOW", 2000)
    monkeypatch.setattr(_worth, "SHORTEST_REST", 20)


def test_a_policy_that_costs_more_than_it_saves_rests_and_works_again(
    store, trace, caplog, short_windows
):
    with caplog.at_level(logging.INFO, logger="tieralloc"):
        store.use_policy(most_recent(ROWS))  # saves nothing
        serve_until(store, trace, "resting")
    found = runtime_of(store)
    assert found["reason"].startswith("it saved 0 s of waiting in ")
    assert [record.message for record in caplog.records] == [
        f"policy ScriptedBrain rests: {found['reason']}"
    ]
    assert found["in_charge"] == found["fallback"]
    assert found["worth"]["rests"] == 1
    assert found["worth"]["saved_seconds"] < found["worth"]["cpu_seconds"]
    assert found["worth"]["rest_lookups"] > 0
    before = store.stats()
    assert before["dram_bytes"]["access_rings"] == 0
    serve(store, trace.samples(0, 200))
    after = store.stats()
    assert after["evictions"] > before["evictions"]
    assert after["advised_evictions"] == before["advised_evictions"]
    assert after["policy_runtime"]["accesses_observed"] == found["accesses_observed"]
    store.reset_stats()  # which does not end a rest
    serve_until(store, trace, "running")
    assert runtime_of(store)["reason"] == ""
    while runtime_of(store)["worth"]["rests"] < 2:
        serve(store, trace.samples(0, 200))
    later = runtime_of(store)
    assert later["accesses_observed"] > found["accesses_observed"]
    assert later["accesses_dropped"] >= found["accesses_dropped"]


class KeepsTheFirst:
    """Has the rows of the lowest numbers stay: of a loop over them, what fits."""

    def observe(self, rows, lengths):
        pass

    def score(self, rows):
        return -rows.astype(np.float32)


def test_a_policy_that_saves_more_than_it_costs_works_on(make_store, monkeypatch, short_windows):
    monkeypatch.setattr(_worth, "_price", lambda begin, end: 1e-6)
    store = make_store(fast_rows=300, policy="lru")
    table = store.create_table("a", 450, 4)
    store.use_policy(KeepsTheFirst())
    loop = np.arange(450)
    while (found := runtime_of(store))["worth"]["saved_seconds"] == 0:
        assert found["state"] == "running"
        for part in np.array_split(loop, 15):
            observed = runtime_of(store)["accesses_observed"]
            table.lookup(part)
            wait_for(
                lambda seen=observed: (
                    (now := runtime_of(store))["accesses_observed"] > seen
                    or now["state"] != "running"
                )
            )
    assert found["worth"]["rests"] == 0
    assert found["state"] == "running"


def test_a_store_is_closed_and_opened_with_a_policy_that_rests(folder, counting, short_windows):
    write_counting_policy(folder / "policy", TABLES)
    path = folder / "s.tier"
    policy = f"counting:{folder / 'policy'}"
    with ta.TieredStore(path, fast_rows=300) as made:
        add_tables(made)
    for rests in (True, False):
        with ta.TieredStore.open(path, fast_rows=300, policy=policy, policy_rests=rests) as store:
            assert (runtime_of(store)["worth"] is not None) is rests
            if rests:
                lookups = iter(range(10**9))
                while runtime_of(store)["state"] != "resting":
                    store.table("a").lookup([next(lookups) % 3000])


def test_a_guard_takes_charge_from_a_bad_brain(store, trace):
    runtime = PolicyRuntime(store._core, most_recent(ROWS), policy="p", fallback="s3fifo")
    store._runtimes.append(runtime)
    for _ in range(4):
        for number, (indices, offsets) in enumerate(trace.batches(1)):
            store.embedding_bag(indices, offsets)
            if number % 4 == 3:
                runtime.step()
    found = runtime_of(store)
    assert found["state"] == "running"
    assert found["guard"]["switches"] >= 1
    assert found["in_charge"] != "p"
    ratios = found["guard"]["miss_ratios"]
    assert ratios["p"] > ratios[found["in_charge"]]
    serve(store, trace)
    assert runtime_of(store)["advised_evictions"] < store.stats()["evictions"]
