"""`recmg` from a trace to its directory and back: training, its metrics, loading."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from paper_support import hot_and_cold

torch = pytest.importorskip("torch")

from tieralloc.policies.recmg.policy import (  # noqa: E402
    CANDIDATE_WIDTH,
    FEATURES,
    RecmgCachingPolicy,
    RecmgPolicy,
)
from tieralloc.policies.recmg.training import train_caching, train_policy  # noqa: E402

from tieralloc._bindings import LearnedModel, Simulator  # noqa: E402
from tieralloc.policy.directory import read_policy, write_policy  # noqa: E402
from tieralloc.policy.planned import PREFETCH_COST  # noqa: E402
from tieralloc.policy.registry import load_policy  # noqa: E402
from tieralloc.policy.scripted import load_module  # noqa: E402
from tieralloc.policy.simulator import run_simulator  # noqa: E402
from tieralloc.tools.simulate import simulate  # noqa: E402
from tieralloc.trace import Trace, generate  # noqa: E402
from tieralloc.trace.stream import Stream  # noqa: E402

SMALL = {"fast_fractions": [0.1], "epochs": 4, "seed": 1}


@pytest.fixture(scope="module")
def trace():
    return hot_and_cold(800)


@pytest.fixture(scope="module")
def trained(trace, tmp_path_factory):
    directory = tmp_path_factory.mktemp("policies") / "recmg"
    train_policy(trace, directory, **SMALL)
    return directory


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def edit_settings(directory, **changes):
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"] |= changes
    path.write_text(json.dumps(manifest))


def one_table(num_accesses=30000, seed=0):
    """A trace in which every other access is to a row that never returns."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(num_accesses + 500)
    rows[: num_accesses // 2] = rows[-500:][rng.integers(0, 500, num_accesses // 2)]
    rows = rng.permutation(rows[:num_accesses])
    lengths = np.ones((1, num_accesses), dtype=np.int32)
    return Trace.from_lengths(rows, lengths, ["t"], [num_accesses + 500], "one table")


def gap_closed(trace, policy, fraction):
    """Share of the way from LRU to OPT, in misses."""
    lru, learned, opt = simulate(trace, ["lru", policy, "opt"], [fraction])
    assert learned["hits"] + learned["on_demand_fetches"] == learned["lookups"] == lru["lookups"]
    assert opt["on_demand_fetches"] <= learned["on_demand_fetches"]
    return (lru["on_demand_fetches"] - learned["on_demand_fetches"]) / (
        lru["on_demand_fetches"] - opt["on_demand_fetches"]
    )


def same_models(one, other):
    """Whether two directories have networks that give the same probabilities."""
    features = np.random.default_rng(0).normal(5, 5, (100, FEATURES.width)).astype(np.float32)
    chances = []
    for directory in (one, other):
        module = load_module(read_policy(directory).models["caching"], "caching")
        with torch.inference_mode():
            chances.append(module(torch.from_numpy(features)))
    assert len(chances[0].unique()) > 50
    return torch.equal(*chances)


def test_recmg_learns_table_of_returning_rows(trace, tmp_path):
    train_policy(trace, tmp_path, [0.03], seed=1)
    assert gap_closed(trace, RecmgPolicy.load(tmp_path), 0.03) > 0.8


def test_recmg_learns_returning_rows_at_any_capacity(tmp_path):
    trace = one_table()
    train_policy(trace, tmp_path, [0.03])
    policy = RecmgPolicy.load(tmp_path)
    assert gap_closed(trace, policy, 0.03) > 0.6
    assert gap_closed(trace, policy, 0.015) > 0.25


def test_recmg_generated_trace_misses_less_than_lru(tmp_path):
    trace = generate(num_samples=4000, seed=3)
    manifest = train_policy(trace, tmp_path, [0.05, 0.2], seed=1)
    for metrics in manifest.metrics["validation"]:
        assert metrics["opt"] < min(metrics["caching"], metrics["prefetching"])
    directory = read_policy(tmp_path)
    assert directory.arrays["prefetch"].shape == (256, CANDIDATE_WIDTH)
    lru = simulate(trace, ["lru"], [0.05, 0.2])
    recmg = simulate(trace, [RecmgPolicy.load(tmp_path)], [0.05, 0.2])
    for one, other in zip(recmg, lru, strict=True):
        assert one["miss_ratio"] < other["miss_ratio"]


def test_manifest_describes_the_training(trace, trained):
    directory = read_policy(trained)
    manifest = directory.manifest
    assert (manifest.policy, manifest.features, manifest.seed) == ("recmg", FEATURES, 1)
    assert manifest.tables == [("hot", 40), ("cold", 3200)]
    assert [capacity.fast_rows for capacity in manifest.capacities] == [324]
    assert (manifest.trace.name, manifest.trace.accesses) == ("hot and cold", 2000)
    assert manifest.settings["epochs"] == 4
    assert manifest.settings["intervals"] == [32, 64, 128, 256, 512]
    assert manifest.settings["horizons"] == [32, 128, 512]
    (metrics,) = manifest.metrics["validation"]
    # Too few candidates to learn from: there is no prefetch model.
    assert set(metrics) == {"fast_fraction", "fast_rows", "lru", "opt", "caching"}
    assert set(directory.models) == set(directory.arrays) == {"caching"}
    assert directory.arrays["caching"].shape == (256, FEATURES.width)
    assert not (trained / ".checkpoints").exists()


def test_train_policy_same_seed_gives_same_models(trace, trained, tmp_path):
    train_policy(trace, tmp_path / "same", **SMALL)
    train_policy(trace, tmp_path / "other", **{**SMALL, "seed": 2})
    assert same_models(trained, tmp_path / "same")
    assert not same_models(trained, tmp_path / "other")
    assert read_policy(tmp_path / "same").manifest == read_policy(trained).manifest


def test_progress_bar_of_each_run_is_completed(trace, tmp_path):
    bars = []

    @contextmanager
    def watch(what, total, unit):
        bars.append([what, total])
        yield lambda done, state: bars[-1].append(done)

    train_policy(trace, tmp_path, progress=watch, **SMALL)
    assert [bar[0] for bar in bars] == [
        "training: caching, validation",
        "validating",
        "training: caching, all accesses",
    ]
    assert all(sum(bar[2:]) == bar[1] for bar in bars)


def test_train_caching_misses_less_than_lru(trace):
    model = train_caching(trace, until=0.5, seed=1)
    assert isinstance(model, LearnedModel)
    stream = Stream.of(trace)
    counts = [
        run_simulator(stream, policy, 100, count_from=2000).counts for policy in (model, "lru")
    ]
    assert counts[0]["on_demand_fetches"] < counts[1]["on_demand_fetches"]


@pytest.mark.parametrize("name", ["recmg", "recmg-caching"])
def test_load_policy_returns_name_model_and_directory(trace, trained, name):
    policy = load_policy(name, str(trained))
    assert policy.name == name
    assert policy.model_for(100) is policy.model
    assert policy.network_kind != "torch"
    policy.directory.check_tables([("hot", 40), ("cold", 3200)])
    policy.check(trace)
    assert isinstance(policy, RecmgCachingPolicy if name == "recmg-caching" else RecmgPolicy)


def test_run_simulator_in_batches_counts_as_in_one(trace, trained, monkeypatch):
    policy = RecmgPolicy.load(trained)
    done = []
    monkeypatch.setattr("tieralloc.policy.simulator._BATCH_SAMPLES", 90)
    stream = Stream.of(trace)
    options = {"count_from": 2000, "prefetch_cost": PREFETCH_COST}
    pieces = run_simulator(stream, policy.model, 100, report=done.append, **options)
    assert sum(done) == 4000
    assert len(done) == 9
    whole = Simulator(policy.model, 100, stream.rows, table_starts=stream.table_starts, **options)
    whole.run(stream.accesses, stream.lengths)
    assert pieces.counts == whole.counts


def test_policy_bytes_stay_below_max_bytes_or_raise(trace, trained):
    model = RecmgPolicy.load(trained).model
    stream = Stream.of(trace)
    nbytes = run_simulator(stream, model, 100).policy_bytes
    assert 0 < nbytes < run_simulator(stream, model, 1000).policy_bytes
    kept = run_simulator(stream, model, 100, max_bytes=nbytes - 1)
    assert 0 < kept.policy_bytes < nbytes
    with pytest.raises(ValueError, match="memory: expected at least"):
        run_simulator(stream, model, 100, max_bytes=1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intervals": [64, 32]}, r"intervals must ascend, got \[64, 32\]"),
        ({"intervals": []}, r"intervals must ascend, got \[\]"),
        ({"intervals": [0, 32]}, r"intervals must ascend, got \[0, 32\]"),
        ({"intervals": [32, 64.5]}, "intervals must be whole numbers, got"),
        ({"intervals": [32, 1 << 32]}, "intervals must be whole numbers, got"),
        ({"intervals": None}, "intervals must be a list, got None"),
        ({"horizons": [32, 32]}, r"horizons must ascend, got \[32, 32\]"),
        ({"horizons": "far"}, "horizons must be a list, got 'far'"),
        ({"eviction_ages": []}, "capacities of eviction_ages must ascend"),
        ({"eviction_ages": [1]}, "eviction_ages must be pairs"),
        ({"eviction_ages": [[1, "old"]]}, "eviction_ages must be pairs"),
        ({"eviction_ages": [[1, -1.0]]}, "eviction_ages must be above 0"),
        ({"eviction_ages": [[1, float("nan")]]}, "eviction_ages must be above 0"),
        ({"eviction_ages": [[2, 3.0], [1, 2.0]]}, "capacities of eviction_ages must ascend"),
        ({"contexts": [2]}, "contexts must be at most 4 of 2 tables"),
        ({"contexts": [0, 0, 0, 0, 0]}, "contexts must be at most 4 of 2 tables"),
        ({"contexts": ["user"]}, "contexts must be numbers of tables"),
    ],
)
def test_load_invalid_setting_raises(copy, changes, message):
    edit_settings(copy, **changes)
    with pytest.raises(ValueError, match=f"{copy}: invalid recmg policy: {message}"):
        RecmgPolicy.load(copy)


def test_load_model_of_other_intervals_raises(copy):
    edit_settings(copy, intervals=[32, 64])
    with pytest.raises(ValueError, match=f"{copy}: model 'caching': expected float32 of shape"):
        RecmgPolicy.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "recmg-paper"}, "expected policy 'recmg', got 'recmg-paper'"),
        (
            {"features": {"name": "row history", "version": 0, "width": 1}},
            "got .row history. of version 0",
        ),
        ({"format_version": 1}, "manifest.json: format version 1 is of an older tieralloc; train"),
    ],
)
def test_load_directory_of_another_kind_raises(copy, change, message):
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        RecmgPolicy.load(copy)


def test_load_without_model_or_features_raises(trained, tmp_path):
    directory = read_policy(trained)
    write_policy(tmp_path, directory.manifest, {}, directory.arrays)
    with pytest.raises(ValueError, match="invalid recmg policy: models must have caching"):
        RecmgPolicy.load(tmp_path)
    write_policy(tmp_path, directory.manifest, {"caching": b"noise"}, directory.arrays)
    with pytest.raises(ValueError, match=f"{tmp_path}: model 'caching': torch cannot load"):
        RecmgPolicy.load(tmp_path)
    write_policy(tmp_path, directory.manifest, directory.models, {})
    with pytest.raises(ValueError, match=f"{tmp_path}: array 'caching': expected float32"):
        RecmgPolicy.load(tmp_path)
