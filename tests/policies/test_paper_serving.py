"""`recmg-paper` beside serving: what the brain decides, and what a store makes of it."""

import numpy as np
import pytest
from paper_support import hot_and_cold

torch = pytest.importorskip("torch")

from tieralloc.policies.paper.learning import train_policy  # noqa: E402
from tieralloc.policies.paper.policy import PaperPolicy  # noqa: E402
from tieralloc.policies.paper.serving import make_brain  # noqa: E402
from tieralloc.policy_directory import read_policy  # noqa: E402
from tieralloc.runtime import PolicyRuntime  # noqa: E402

FAST_ROWS = 60


@pytest.fixture(scope="module")
def trace():
    return hot_and_cold(1500)


@pytest.fixture(scope="module")
def trained(trace, tmp_path_factory):
    directory = tmp_path_factory.mktemp("policies") / "paper"
    train_policy(trace, directory, [0.008, 0.1], rounds=3, seed=1)
    return directory


def pieces(accesses):
    """The accesses in pieces that heed no chunk."""
    return np.split(accesses, [1, 7, 8, 40, 400, 401, 3000])


def all_absent(rows):
    return np.ones(len(rows), dtype=bool)


def test_in_pieces_it_decides_what_the_simulator_decides(trace, trained):
    policy = PaperPolicy.load(trained)
    brain = make_brain(read_policy(trained), FAST_ROWS)
    accesses = trace.accesses()
    _, expected = policy.decide(policy.models(FAST_ROWS), accesses)
    found = []
    for rows in pieces(accesses):
        brain.observe(rows, np.array([len(rows)], dtype=np.uint32))
        found.append(brain.prefetches(all_absent))
    found = np.concatenate(found)
    # What is computed in batches of another size may round otherwise.
    assert len(found) == expected.size
    assert (found == expected.ravel()).mean() > 0.99
    counts = policy.count(trace, FAST_ROWS, count_from=0, report=lambda done: None)
    whole = len(accesses) // 15 * 15
    assert brain._tier.counts["lookups"] == whole
    assert abs(brain._tier.counts["hits"] - counts["hits"]) <= 15 + 0.01 * counts["hits"]


def test_where_it_does_not_look_ahead_it_decides_alike_and_fetches_nothing(trace, trained):
    policy = PaperPolicy.load(trained)
    accesses = trace.accesses()
    keep, ahead = policy.decide(policy.models(FAST_ROWS), accesses)
    alone, nothing = policy.decide(policy.models(FAST_ROWS), accesses, ahead=False)
    assert np.array_equal(alone, keep)
    assert nothing.shape == (len(ahead), 0)
    brain = make_brain(read_policy(trained), FAST_ROWS)
    brain.looks_ahead = False
    for rows in pieces(accesses):
        brain.observe(rows, np.array([len(rows)], dtype=np.uint32))
        assert len(brain.prefetches(all_absent)) == 0
    assert brain._tier.counts["lookups"] == len(accesses) // 15 * 15


def test_rows_worth_keeping_score_more_and_those_of_no_whole_chunk_are_spared(trace, trained):
    brain = make_brain(read_policy(trained), FAST_ROWS)
    accesses = trace.accesses()[:7003]  # 13 past a whole chunk
    brain.observe(accesses, np.array([len(accesses)], dtype=np.uint32))
    hot, cold = np.arange(40, dtype=np.uint64), np.arange(40, 6040, dtype=np.uint64)
    assert brain.score(hot).mean() > brain.score(cold).mean()
    assert brain.score(np.setdiff1d(cold, accesses)).min() == -1
    policy = PaperPolicy.load(trained)
    assert brain.score(accesses[-13:]).min() >= policy.models(FAST_ROWS).eviction_speed


def test_in_step_a_store_fetches_about_what_the_simulator_says(trace, trained, make_store):
    store = make_store(fast_rows=300, policy="s3fifo")
    for name, count in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True):
        store.create_table(name, count, 4)
    brain = make_brain(read_policy(trained), 300)
    runtime = PolicyRuntime(store._core, brain, policy="p", fallback="s3fifo", guarded=False)
    for indices, offsets in trace.batches(3):  # a chunk
        store.embedding_bag(indices, offsets)
        runtime.step()
    stats = store.stats()
    simulated = brain._tier.counts
    assert stats["prefetches_issued"] > 0
    assert stats["advised_evictions"] > 0.8 * stats["evictions"]
    assert abs(stats["on_demand_fetches"] / simulated["on_demand_fetches"] - 1) < 0.05
