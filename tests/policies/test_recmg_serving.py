"""`recmg` beside serving: what the brain says, and what a store makes of it."""

import numpy as np
import pytest
from paper_support import hot_and_cold

import tieralloc as ta

torch = pytest.importorskip("torch")

from tieralloc._advising import make_guard, simulate_advised  # noqa: E402
from tieralloc.policies.recmg.learning import train_policy  # noqa: E402
from tieralloc.policies.recmg.policy import RecmgPolicy  # noqa: E402
from tieralloc.policies.recmg.serving import make_brain, make_caching_brain  # noqa: E402
from tieralloc.policy_directory import read_policy  # noqa: E402
from tieralloc.runtime import PolicyRuntime  # noqa: E402


@pytest.fixture(scope="module")
def trace():
    return hot_and_cold(800)


@pytest.fixture(scope="module")
def trained(trace, tmp_path_factory):
    directory = tmp_path_factory.mktemp("policies") / "recmg"
    train_policy(trace, directory, [0.02], rounds=2, seed=1)
    return directory


def test_the_brain_scores_rows_as_the_simulator_does(trace, trained):
    policy = RecmgPolicy.load(trained)
    brain = make_brain(read_policy(trained), 48)
    history = policy.history(policy.memory(48))
    accesses, lengths = trace.accesses(), trace.lengths.sum(axis=0, dtype=np.uint32)
    brain.observe(accesses, lengths)
    history.observe(accesses, lengths)
    rows = np.unique(accesses)[:200]
    assert np.array_equal(brain.score(rows), policy.models.scorer(48)(history.features(rows)))


def test_what_it_saw_while_it_did_not_look_ahead_it_knows_once_it_does(trace, trained):
    accesses, lengths = trace.accesses(), trace.lengths.sum(axis=0, dtype=np.uint32)
    half = len(lengths) // 2
    cut = int(lengths[:half].sum())
    chosen = []
    for looks_ahead in (True, False):
        brain = make_brain(read_policy(trained), 48)
        brain.looks_ahead = looks_ahead
        brain.observe(accesses[:cut], lengths[:half])
        if looks_ahead:
            brain._prefetcher.candidates(brain._history)  # taken, and not chosen from
        brain.looks_ahead = True
        brain.observe(accesses[cut:], lengths[half:])
        chosen.append(brain.prefetches(lambda rows: np.ones(len(rows), dtype=np.bool_)))
    assert np.array_equal(*chosen)


def test_what_it_remembers_keeps_within_policy_bytes(trace, trained, tmp_path):
    fast_rows, most = 400, 3 << 19
    tables = list(zip(trace.table_names, map(int, trace.num_embeddings), strict=True))
    with ta.TieredStore(tmp_path / "emb.tier", fast_rows=fast_rows) as store:
        for name, count in tables:
            store.create_table(name, count, 4)
        policy = f"recmg:{trained}"
        store.use_policy(policy)
        assert store.stats()["dram_bytes"]["history"] > most
        store.use_policy(policy, policy_bytes="1.5MiB")
        assert most / 2 < store.stats()["dram_bytes"]["history"] <= most
        with pytest.raises(ValueError, match=r"policy_bytes is 100, expected at least \d+"):
            store.use_policy(policy, policy_bytes=100)
        assert store.stats()["policy_runtime"]["state"] == "running"
        store.use_policy("lru")
    options = {"fast_rows": fast_rows, "policy": policy, "policy_bytes": most}
    with ta.TieredStore.open(tmp_path / "emb.tier", **options) as store:
        assert most / 2 < store.stats()["dram_bytes"]["history"] <= most


def test_a_store_serves_right_rows_and_takes_advice(trace, trained, tmp_path):
    rows = [int(count) for count in trace.num_embeddings]
    with ta.TieredStore(tmp_path / "emb.tier", fast_rows=48) as store:
        for name, count in zip(trace.table_names, rows, strict=True):
            table = store.create_table(name, count, 4)
            table.load(np.arange(4 * count, dtype=np.float32).reshape(count, 4))
    with ta.TieredStore.open(
        tmp_path / "emb.tier", fast_rows=48, policy=f"recmg:{trained}"
    ) as store:
        for indices, offsets in trace.batches(8):
            expected = [
                np.arange(4, dtype=np.float32) + 4 * index for index in indices[: offsets[1]]
            ]
            pooled = store.embedding_bag(indices, offsets)
            assert np.array_equal(pooled[0, :4], np.sum(expected, axis=0, initial=0))
        figures = store.stats()["policy_runtime"]
    assert figures["policy"].startswith("recmg")
    assert figures["state"] == "running"
    assert not figures["reason"]


@pytest.mark.parametrize("guarded", [False, True])
def test_in_step_a_store_fetches_what_the_simulator_says(trace, trained, make_store, guarded):
    store = make_store(fast_rows=48, policy="s3fifo")
    for name, count in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True):
        store.create_table(name, count, 4)
    directory = read_policy(trained)
    runtime = PolicyRuntime(
        store._core,
        make_caching_brain(directory, 48),
        policy="recmg",
        fallback="s3fifo",
        guarded=guarded,
    )
    for indices, offsets in trace.batches(1):
        store.embedding_bag(indices, offsets)
        runtime.step()
    simulated = simulate_advised(
        trace.accesses(),
        trace.lengths.sum(axis=0, dtype=np.uint32),
        48,
        make_caching_brain(directory, 48),
        guard=make_guard(48, "s3fifo") if guarded else None,
        step=1,
    )
    stats = store.stats()
    assert stats["accesses_dropped"] == 0
    assert guarded or stats["advised_evictions"] > 0.9 * stats["evictions"]
    assert abs(stats["on_demand_fetches"] / simulated["on_demand_fetches"] - 1) < 0.02
