"""`recmg-paper` from a trace to its directory and back: decisions, training, loading."""

import json
import shutil

import numpy as np
import pytest
from paper_support import hot_and_cold

torch = pytest.importorskip("torch")

from tieralloc.policies.ids import IdSpace  # noqa: E402
from tieralloc.policies.recmg_paper import decisions  # noqa: E402
from tieralloc.policies.recmg_paper.decisions import (  # noqa: E402
    Inputs,
    decide_keep,
    decide_prefetches,
)
from tieralloc.policies.recmg_paper.models import CachingModel, PrefetchModel  # noqa: E402
from tieralloc.policies.recmg_paper.policy import PaperPolicy  # noqa: E402
from tieralloc.policies.recmg_paper.training import train_policy  # noqa: E402

from tieralloc.policy.directory import read_policy, write_policy  # noqa: E402
from tieralloc.tools.simulate import simulate  # noqa: E402

FRACTION = 0.003  # 48 rows; the hot table has 40


@pytest.fixture(scope="module")
def trace():
    return hot_and_cold(4000)


@pytest.fixture(scope="module")
def trained(trace, tmp_path_factory):
    directory = tmp_path_factory.mktemp("policies") / "paper"
    train_policy(trace, directory, [FRACTION, 0.02], epochs=5, seed=1)
    return directory


def test_inputs_hold_whole_chunks_in_order():
    space = IdSpace(np.array([2, 0, 3, 1], dtype=np.uint64))
    accesses = np.array([0, 1, 2, 3] * 8, dtype=np.uint64)
    inputs = Inputs.of(accesses, np.array([0, 3]), space)
    assert len(inputs) == 2
    assert inputs.positions[0, :4].tolist() == pytest.approx([1 / 3, 1, 0, 2 / 3])
    assert inputs.tables[1, :4].tolist() == [1, 0, 0, 0]  # accesses 15 to 18


def test_decisions_do_not_depend_on_batch_size(monkeypatch):
    torch.manual_seed(0)
    space = IdSpace(np.random.default_rng(0).permutation(200).astype(np.uint64))
    accesses = np.random.default_rng(1).integers(0, 200, 700).astype(np.uint64)
    inputs = Inputs.of(accesses, np.array([0, 100]), space)
    models = CachingModel(2, 0.5, 0.3), PrefetchModel(2, 0.5, 0.3)
    keep, prefetches = decide_keep(models[0], inputs), decide_prefetches(models[1], inputs, space)
    assert (len(keep), prefetches.shape) == (690, (46, 5))
    monkeypatch.setattr(decisions, "_BATCH_CHUNKS", 7)
    assert (decide_keep(models[0], inputs) == keep).mean() > 0.99
    assert (decide_prefetches(models[1], inputs, space) == prefetches).mean() > 0.99


def test_paper_policy_learns_returning_rows(trace, trained):
    policy = PaperPolicy.load(trained)
    lru, learned, opt = simulate(trace, ["lru", policy, "opt"], [FRACTION])
    assert [lru["policy"], learned["policy"]] == ["lru", "recmg-paper"]
    closed = (lru["on_demand_fetches"] - learned["on_demand_fetches"]) / (
        lru["on_demand_fetches"] - opt["on_demand_fetches"]
    )
    assert closed > 0.5
    assert learned["hits"] + learned["on_demand_fetches"] == learned["lookups"]
    assert learned["prefetches_issued"] > learned["prefetches_useful"] >= 0


def test_manifest_describes_the_training(trace, trained):
    manifest = read_policy(trained).manifest
    assert manifest.policy == "recmg-paper"
    assert manifest.tables == [("hot", 40), ("cold", 16000)]
    assert [capacity.fast_rows for capacity in manifest.capacities] == [48, 320]
    assert (manifest.trace.name, manifest.trace.accesses) == ("hot and cold", 10000)
    first, second = manifest.metrics["validation"]
    assert first["opt"] <= first["caching"] < first["lru"]
    assert second["fast_rows"] == 320
    assert not (trained / ".checkpoints").exists()


def test_model_for_untrained_capacity_is_the_nearest(trace, trained):
    policy = PaperPolicy.load(trained)
    for fraction, nearest in ((0.004, 48), (0.2, 320)):  # 64 and 3208 rows
        models = {nearest: policy._models[nearest]}
        alone = PaperPolicy("recmg-paper", policy.directory, policy._space, models)
        assert simulate(trace, [policy], [fraction]) == simulate(trace, [alone], [fraction])


def test_has_seen_training_accesses_only(trace, trained):
    directory = PaperPolicy.load(trained).directory
    assert directory.has_seen(trace.accesses(), 9999)
    assert not directory.has_seen(trace.accesses(), 10000)
    assert not directory.has_seen(trace.accesses()[::-1], 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk": 16}, "invalid recmg-paper policy: chunk must be 15, got 16; train"),
        ({}, "invalid recmg-paper policy: KeyError.'chunk'"),
        ({"chunk": 15, "eviction_speeds": {}}, "KeyError.'48'"),
        ({"chunk": 15, "eviction_speeds": None}, "invalid recmg-paper policy: TypeError"),
    ],
)
def test_load_invalid_setting_raises(trained, tmp_path, settings, message):
    directory = shutil.copytree(trained, tmp_path / "copy")
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps(manifest | {"settings": settings}))
    with pytest.raises(ValueError, match=message):
        PaperPolicy.load(directory)


def test_load_invalid_order_or_model_raises(trained, tmp_path):
    directory = read_policy(trained)
    order = directory.arrays["order"].copy()
    order[0] = order[1]
    write_policy(tmp_path / "order", directory.manifest, directory.models, {"order": order})
    with pytest.raises(ValueError, match="order must hold each of 16040 rows once"):
        PaperPolicy.load(tmp_path / "order")
    models = {**directory.models, "caching-48": b"noise"}
    write_policy(tmp_path / "model", directory.manifest, models, directory.arrays)
    with pytest.raises(ValueError, match="model 'caching-48': torch cannot load"):
        PaperPolicy.load(tmp_path / "model")
