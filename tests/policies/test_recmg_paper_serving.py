"""`recmg-paper` in a store, stepped and in the background, against the simulator."""

import threading
import time

import numpy as np
import pytest
from paper_support import hot_and_cold

torch = pytest.importorskip("torch")

from tieralloc.policies.recmg_paper.models import CHUNK  # noqa: E402
from tieralloc.policies.recmg_paper.training import train_policy  # noqa: E402

from tieralloc._bindings import Simulator  # noqa: E402
from tieralloc.policy.registry import load_policy  # noqa: E402
from tieralloc.policy.simulator import run_simulator  # noqa: E402
from tieralloc.tools.simulate import simulate  # noqa: E402
from tieralloc.trace.stream import Stream  # noqa: E402

FAST_ROWS = 60


@pytest.fixture(scope="module")
def trace():
    return hot_and_cold(1500)


@pytest.fixture(scope="module")
def policy(trace, tmp_path_factory):
    directory = tmp_path_factory.mktemp("policies") / "paper"
    train_policy(trace, directory, [0.008, 0.1], epochs=3, seed=1)
    return load_policy("recmg-paper", directory)


def store_of(make_store, trace, fast_rows):
    store = make_store(fast_rows=fast_rows, policy="s3fifo")
    for name, count in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True):
        store.create_table(name, count, 4)
    return store


def use(store, policy, fast_rows, in_background):
    store._core.use_planned(
        policy.model_for(fast_rows),
        "s3fifo",
        pauses=False,
        in_background=in_background,
        max_bytes=0,
        prefetch_cost=0.0,
        selects=True,
    )


def observed(store):
    return store._core.policy_stats()["accesses_observed"]


def wait_until(store, is_true):
    deadline = time.monotonic() + 60
    while not is_true():
        assert store._core.policy_stats()["state"] == "running"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_model_for_known_accesses_counts_as_chunk_by_chunk(trace, policy):
    simulator = Simulator(
        policy.model_for(FAST_ROWS), FAST_ROWS, policy.rows, table_starts=policy.table_starts
    )
    accesses = trace.accesses()
    threads = torch.get_num_threads()
    simulator.run(accesses)
    assert torch.get_num_threads() == threads
    known = policy.model_for(FAST_ROWS, accesses)
    counted = run_simulator(Stream.of(trace), known, FAST_ROWS).counts
    counts = simulator.counts
    assert counts["lookups"] == counted["lookups"] == len(accesses)
    assert counts["prefetches_issued"] > 0
    # Batches of another size round differently.
    assert counts["hits"] == pytest.approx(counted["hits"], rel=0.01)


def test_stepped_store_fetches_as_the_simulator(trace, policy, make_store):
    store = store_of(make_store, trace, 300)
    use(store, policy, 300, in_background=False)
    assert trace.num_tables * 3 <= CHUNK
    for indices, offsets in trace.batches(3):  # a chunk
        store.embedding_bag(indices, offsets)
        store._core.step_policy()
    stats = store.stats()
    (counts,) = simulate(trace, [policy], [300 / len(np.unique(trace.accesses()))], 0, batch_size=3)
    assert counts["fast_rows"] == 300
    assert stats.lookups == counts["lookups"]
    assert stats.prefetches_issued > 0
    assert stats.on_demand_fetches == pytest.approx(counts["on_demand_fetches"], rel=0.05)


def test_store_in_background_decides_on_one_thread(trace, policy, make_store):
    seen = set()
    decide = policy.decide

    def watched(models, accesses):
        seen.add((threading.get_native_id(), torch.get_num_threads()))
        return decide(models, accesses)

    policy.decide = watched
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        store = store_of(make_store, trace, 300)
        use(store, policy, 300, in_background=True)
        for indices, offsets in trace.batches(30):
            store.embedding_bag(indices, offsets)
        wait_until(store, lambda: observed(store) == store.stats().lookups)
        # The prefetches of a step follow its count of accesses.
        wait_until(store, lambda: store.stats().prefetches_issued > 0)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
        del policy.decide
    assert len(seen) == 1
    ((thread, threads),) = seen
    assert thread != threading.get_native_id()
    assert threads == 1
