"""`recmg` fetching ahead: where it can, where it must not, and what it refuses to do it with."""

import numpy as np
import pytest

import tieralloc as ta

torch = pytest.importorskip("torch")

from tieralloc.policies.recmg.learning import train_policy  # noqa: E402
from tieralloc.policies.recmg.policy import RecmgCachingPolicy, RecmgPolicy  # noqa: E402
from tieralloc.policies.recmg.serving import make_brain, make_caching_brain  # noqa: E402
from tieralloc.policies.registry import with_learned  # noqa: E402
from tieralloc.policy_directory import read_policy, write_policy  # noqa: E402
from tieralloc.replay import replay  # noqa: E402
from tieralloc.runtime import PolicyRuntime  # noqa: E402
from tieralloc.simulate import simulate  # noqa: E402
from tieralloc.trace import Trace  # noqa: E402

GROUP, GROUPS, PER_SAMPLE = 12, 150, 3
ROWS, FAST_ROWS, FRACTION = GROUP * GROUPS, 90, 0.05


@pytest.fixture(scope="module")
def trace():
    """Sessions of six samples, all of rows of one group."""
    random = np.random.default_rng(7)
    samples = 4800
    groups = random.integers(0, GROUPS, samples // 6).repeat(6)
    members = random.permuted(np.tile(np.arange(GROUP), (samples, 1)), axis=1)[:, :PER_SAMPLE]
    rows = (GROUP * groups[:, None] + members).ravel()
    lengths = np.full((1, samples), PER_SAMPLE, dtype=np.int32)
    return Trace.from_lengths(rows, lengths, ["item"], [ROWS], "sessions")


@pytest.fixture(scope="module")
def trained(trace, tmp_path_factory):
    directory = tmp_path_factory.mktemp("policies") / "recmg"
    train_policy(trace, directory, [FRACTION], rounds=3, seed=1)
    return directory


def prefetches(record):
    return {name: count for name, count in record.items() if name.startswith("prefetches")}


def test_simulated_it_saves_fetches_and_without_its_prefetch_model_it_fetches_nothing_ahead(
    trace, trained
):
    policies = with_learned([f"recmg:{trained}", f"recmg-caching:{trained}", "opt"])
    both, caching, opt = simulate(trace, policies, [FRACTION])
    assert [both["policy"], caching["policy"]] == ["recmg", "recmg-caching"]
    assert set(prefetches(caching).values()) == {0}
    assert both["prefetches_useful"] > 0.5 * both["prefetches_issued"] > 0
    assert both["on_demand_fetches"] < 0.9 * caching["on_demand_fetches"]
    assert caching["on_demand_fetches"] >= opt["on_demand_fetches"]


def serve_in_step(trace, store, brain):
    """Look up sample after sample, the runtime taking a step after each."""
    store.create_table("item", ROWS, 4)
    runtime = PolicyRuntime(store._core, brain, policy="recmg", fallback="s3fifo", guarded=False)
    for indices, offsets in trace.batches(1):
        store.embedding_bag(indices, offsets)
        runtime.step()
    return store.stats()


def test_a_store_fetches_ahead_what_is_asked_for(trace, trained, make_store):
    store = make_store(fast_rows=FAST_ROWS, policy="s3fifo")
    brain = make_brain(read_policy(trained), FAST_ROWS)
    stats = serve_in_step(trace, store, brain)
    assert stats["prefetches_issued"] > 0
    assert stats["prefetches_useful"] > 0
    alone = make_caching_brain(read_policy(trained), FAST_ROWS)
    assert brain.nbytes > alone.nbytes


def test_a_store_fetches_nothing_ahead_with_the_caching_model_alone(trace, trained, make_store):
    store = make_store(fast_rows=FAST_ROWS, policy="s3fifo")
    stats = serve_in_step(trace, store, make_caching_brain(read_policy(trained), FAST_ROWS))
    assert set(prefetches(stats).values()) == {0}
    assert stats["advised_evictions"] > 0


@pytest.mark.parametrize("name", ["recmg", "recmg-caching"])
def test_both_are_replayed_from_one_directory(trace, trained, tmp_path, name):
    (record,) = replay(
        trace, [f"{name}:{trained}"], [FRACTION], embedding_dim=4, batch_size=16, directory=tmp_path
    )
    assert record["policy"] == name
    assert record["hits"] + record["on_demand_fetches"] == record["lookups"]
    if name == "recmg-caching":
        assert set(prefetches(record).values()) == {0}


def test_a_store_opened_with_the_caching_model_alone_takes_its_directory(trained, tmp_path):
    with ta.TieredStore(tmp_path / "emb.tier", fast_rows=FAST_ROWS) as store:
        store.create_table("item", ROWS, 4)
    policy = f"recmg-caching:{trained}"
    with ta.TieredStore.open(tmp_path / "emb.tier", fast_rows=FAST_ROWS, policy=policy) as store:
        store.embedding_bag(np.arange(9), np.array([0, 4]))
        assert store.stats()["policy_runtime"]["policy"].startswith("recmg-caching")


def test_without_a_directory_it_says_how_to_train_it():
    with pytest.raises(ValueError, match=r"tieralloc train T --policy recmg --out DIR"):
        with_learned(["recmg-caching"])


def test_samples_of_single_rows_train_no_prefetch_model(trace, tmp_path):
    count = 1200
    lengths = np.ones((1, count), dtype=np.int32)
    single = Trace.from_lengths(trace.indices[:count], lengths, ["item"], [ROWS], "single")
    manifest = train_policy(single, tmp_path, [FRACTION], rounds=1)
    assert "prefetching" not in manifest.metrics["validation"][0]
    assert list(manifest.settings["rounds"]) == ["caching"]
    assert list(read_policy(tmp_path).models) == ["caching"]
    (record,) = simulate(single, [RecmgPolicy.load(tmp_path)], [FRACTION])
    assert set(prefetches(record).values()) == {0}
    brain = make_brain(read_policy(tmp_path), FAST_ROWS)
    brain.observe(single.accesses(), lengths[0].astype(np.uint32))
    assert not hasattr(brain, "prefetches")


def test_a_damaged_prefetch_model_is_refused_and_not_needed_without_prefetching(trained, tmp_path):
    found = read_policy(trained)
    caching = found.models["caching"]
    for damaged, told in (
        (b"noise", "model 'prefetch' cannot be loaded"),
        (caching, "its prefetch model fails"),  # which is of other features
    ):
        write_policy(
            tmp_path, found.manifest, {"caching": caching, "prefetch": damaged}, found.arrays
        )
        with pytest.raises(ValueError, match=told):
            RecmgPolicy.load(tmp_path)
        with pytest.raises(ValueError, match=told):
            make_brain(read_policy(tmp_path), FAST_ROWS)
        policy = RecmgCachingPolicy.load(tmp_path)
        assert policy.prefetcher(policy.memory(FAST_ROWS)) is None
