"""`recmg` from a trace to its directory and back: what it learns, and what it refuses."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from paper_support import hot_and_cold

torch = pytest.importorskip("torch")

from tieralloc._core import row_feature_names  # noqa: E402
from tieralloc.policies.recmg.contexts import find_contexts  # noqa: E402
from tieralloc.policies.recmg.horizons import (  # noqa: E402
    eviction_age,
    eviction_ages,
    horizon_weights,
    horizons_for,
)
from tieralloc.policies.recmg.learning import _first_lengths, train_policy  # noqa: E402
from tieralloc.policies.recmg.model import HorizonModel  # noqa: E402
from tieralloc.policies.recmg.policy import FEATURES, RecmgPolicy  # noqa: E402
from tieralloc.policy_directory import read_policy, write_policy  # noqa: E402
from tieralloc.simulate import simulate  # noqa: E402
from tieralloc.trace import Trace  # noqa: E402

FRACTION = 0.003  # 48 rows, of which 40 are worth it
SMALL = {"fast_fractions": [0.02], "rounds": 3, "seed": 1}


@pytest.fixture(scope="module")
def trace():
    return hot_and_cold(4000)


@pytest.fixture(scope="module")
def trained(trace, tmp_path_factory):
    directory = tmp_path_factory.mktemp("policies") / "recmg"
    train_policy(trace, directory, [FRACTION, 0.02], seed=1)
    return directory


@pytest.fixture(scope="module")
def small_trace():
    return hot_and_cold(800)


@pytest.fixture(scope="module")
def small(small_trace, tmp_path_factory):
    """What training comes to where it is not disturbed."""
    directory = tmp_path_factory.mktemp("policies") / "small"
    train_policy(small_trace, directory, **SMALL)
    return read_policy(directory)


def one_table(num_accesses=30000, seed=0):
    """A trace in which one access in two is to a row that comes once, which nothing but the past
    of the row tells."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(num_accesses + 500)
    rows[: num_accesses // 2] = rows[-500:][rng.integers(0, 500, num_accesses // 2)]
    rows = rng.permutation(rows[:num_accesses])
    lengths = np.ones((1, num_accesses), dtype=np.int32)
    return Trace.from_lengths(rows, lengths, ["t"], [num_accesses + 500], "one table")


def closed(trace, policy, fraction):
    lru, learned, opt = simulate(trace, ["lru", policy, "opt"], [fraction])
    assert learned["hits"] + learned["on_demand_fetches"] == learned["lookups"] == lru["lookups"]
    assert opt["on_demand_fetches"] <= learned["on_demand_fetches"]
    return (lru["on_demand_fetches"] - learned["on_demand_fetches"]) / (
        lru["on_demand_fetches"] - opt["on_demand_fetches"]
    )


def test_it_learns_which_table_comes_back(trace, trained):
    assert closed(trace, RecmgPolicy.load(trained), FRACTION) > 0.9


def test_it_learns_which_rows_of_a_table_come_back(tmp_path):
    trace = one_table()
    train_policy(trace, tmp_path, [0.03])
    policy = RecmgPolicy.load(tmp_path)
    assert closed(trace, policy, 0.03) > 0.6
    assert closed(trace, policy, 0.015) > 0.25  # which it was not trained for


def test_the_manifest_says_what_was_done(trained):
    manifest = read_policy(trained).manifest
    assert manifest.policy == "recmg"
    assert manifest.features == FEATURES
    assert manifest.tables == [("hot", 40), ("cold", 16000)]
    assert [capacity.fast_rows for capacity in manifest.capacities] == [48, 320]
    assert (manifest.trace.name, manifest.trace.accesses) == ("hot and cold", 10000)
    first, second = manifest.metrics["validation"]
    assert first["opt"] <= first["caching"] < first["lru"]
    assert second["fast_rows"] == 320
    assert first["prefetching"] <= first["caching"] * 1.02
    rounds = manifest.settings["rounds"]
    assert 1 <= rounds["caching"] <= 10
    assert 1 <= rounds["prefetch"] <= 3
    assert not (trained / ".checkpoints").exists()


def test_nothing_is_learned_from_what_comes_after(small_trace, small, tmp_path):
    indices = small_trace.indices.copy()
    later = slice(400, 800)  # of the hot table
    indices[later] = hot_and_cold(800, seed=5).indices[later]
    train_policy(replace(small_trace, indices=indices), tmp_path, **SMALL)
    other = read_policy(tmp_path)
    assert other.manifest.trace.fingerprint != small.manifest.trace.fingerprint
    assert other.manifest.metrics == small.manifest.metrics
    assert other.manifest.settings == small.manifest.settings
    assert same_scores(other, small)


def same_scores(one, other):
    features = np.random.default_rng(0).normal(5, 5, (100, FEATURES.width)).astype(np.float32)
    features[:, 0] %= 2
    of_rows = np.ascontiguousarray(features[:, : len(row_feature_names())])
    models = [RecmgPolicy.load(directory.path).models for directory in (one, other)]
    scores = [it.scorer(100)(of_rows) for it in models]
    chances = [it.ahead_scorer()(features) for it in models]
    assert len(np.unique(scores[0])) > 50
    assert len(np.unique(chances[0])) > 50
    return np.array_equal(*scores) and np.array_equal(*chances)


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_interrupted_training_goes_on_and_ends_the_same(small_trace, small, tmp_path, steps):
    seen = 0

    @contextmanager
    def interrupting(what, total, unit):
        def report(done, state):
            nonlocal seen
            seen += 1
            if seen == steps:
                raise KeyboardInterrupt

        yield report

    with pytest.raises(KeyboardInterrupt):
        train_policy(small_trace, tmp_path, progress=interrupting, **SMALL)
    with pytest.raises(ValueError, match="its training has not ended"):
        read_policy(tmp_path)
    manifest = train_policy(small_trace, tmp_path, **SMALL)
    assert manifest.metrics == small.manifest.metrics
    assert same_scores(read_policy(tmp_path), small)


def test_another_trace_is_refused_where_its_tables_differ(trained):
    policy = RecmgPolicy.load(trained)
    with pytest.raises(ValueError, match="'cold' of 16000 rows as number 1, got 'cold' of 400"):
        simulate(hot_and_cold(num_samples=100), ["lru", policy], [0.1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"policy": "recmg-paper"}, "holds policy 'recmg-paper', expected 'recmg'"),
        ({"features": {"name": "row history", "version": 0, "width": 1}}, "of version 0, expected"),
        ({"settings": {}}, "no sound recmg: KeyError.'horizons'"),
        ({"settings": {"horizons": [32], "eviction_ages": [1], "contexts": []}}, "TypeError"),
        ({"horizons": [64, 32]}, "its settings are amiss"),
        ({"horizons": [32, 64]}, "its caching model fails"),
        ({"contexts": [2]}, "its settings are amiss"),
        ({"contexts": ["user"]}, "no sound recmg: ValueError"),
        ({"eviction_ages": []}, "its settings are amiss"),
    ],
)
def test_what_does_not_fit_is_refused(trained, tmp_path, change, told):
    directory = shutil.copytree(trained, tmp_path / "copy")
    manifest = json.loads((directory / "manifest.json").read_text())
    own = (
        change if change.keys() <= manifest.keys() else {"settings": manifest["settings"] | change}
    )
    (directory / "manifest.json").write_text(json.dumps(manifest | own))
    with pytest.raises(ValueError, match=told):
        RecmgPolicy.load(directory)


def test_noise_for_a_model_is_refused(trained, tmp_path):
    found = read_policy(trained)
    write_policy(tmp_path, found.manifest, {"caching": b"noise"}, found.arrays)
    with pytest.raises(ValueError, match="model 'caching' cannot be loaded"):
        RecmgPolicy.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"until": 0}, "until is 0"),
        ({"until": 0.01}, "has 40 accesses to learn from, expected at least 200"),
        ({"fast_fractions": [2]}, "fast_fraction is 2"),
    ],
)
def test_bad_arguments_are_named(small_trace, tmp_path, change, told):
    with pytest.raises(ValueError, match=told):
        train_policy(small_trace, tmp_path, **{"fast_fractions": [0.1], **change})


def test_a_constant_feature_and_one_far_out_do_no_harm():
    mean, deviation = torch.zeros(FEATURES.width), torch.ones(FEATURES.width)
    deviation[5] = 0
    model = HorizonModel(2, mean, deviation, 3).eval()
    features, weights = torch.zeros(2, FEATURES.width), torch.ones(3)
    features[1, 5] = 1e9
    scores = model(features, weights)
    assert scores[0] == scores[1]
    far, farther = features.clone(), features.clone()
    far[:, 7], farther[:, 7] = 6, 1e9
    assert torch.equal(model(far, weights), model(farther, weights))
    features[:, 0] = torch.tensor([1, 99])  # a table that there is not
    assert torch.isfinite(model(features, weights)).all()


def test_eviction_ages_are_those_of_lru():
    accesses = np.arange(4000, dtype=np.uint64) % 100
    ages = dict(eviction_ages(accesses, 200, count_from=2000))
    assert list(ages) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert all(ages[capacity] == capacity for capacity in list(ages)[:-1])  # all are misses
    assert ages[128] == 128 * 2000
    assert eviction_age(list(ages.items()), 3) == pytest.approx(3)
    assert eviction_age(list(ages.items()), 10**6) == pytest.approx(128 * 2000)


def test_horizons_weigh_by_how_long_rows_stay():
    horizons = horizons_for(10_000)
    assert horizons == [32, 128, 512, 1024, 2048, 4096]
    weights = [horizon_weights(horizons, 6 * age) for age in (1, 32, 1024, 4096, 10**9)]
    assert [horizons[int(weight.argmax())] for weight in weights] == [32, 32, 1024, 4096, 4096]
    assert all(weight.sum() == pytest.approx(1) for weight in weights)


def test_a_table_that_stays_the_same_when_rows_come_back_is_a_context():
    rng = np.random.default_rng(0)
    users = rng.integers(0, 50, 3000)
    items = users * 4 + rng.integers(0, 4, 3000)  # a user's own
    noise = rng.integers(0, 200, 3000)
    accesses = np.stack([noise, 200 + users, 250 + items], axis=1).astype(np.uint64)
    starts = np.array([0, 200, 250, 450], dtype=np.uint64)
    lengths = np.full(3000, 3, dtype=np.uint32)
    assert set(find_contexts(accesses.ravel(), lengths, starts, 0)) == {1, 2}
    assert find_contexts(accesses[:, 0].copy(), lengths // 3, starts[:2], 0) == []
    once = np.arange(450, dtype=np.uint64)
    assert find_contexts(once, np.array([450], dtype=np.uint32), starts, 0) == []


def test_the_sample_that_training_ends_in_is_cut_short():
    assert _first_lengths(np.array([2, 0, 3, 4]), 4).tolist() == [2, 0, 2]
    assert _first_lengths(np.array([2, 0, 3, 4]), 5).tolist() == [2, 0, 3]
    assert _first_lengths(np.array([2, 0, 3, 4]), 9).tolist() == [2, 0, 3, 4]
