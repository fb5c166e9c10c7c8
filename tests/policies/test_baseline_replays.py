"""Baselines on traces: orders of rows, replays and tuning."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tieralloc.policies.baselines.baseline import Outcome, Tier
from tieralloc.policies.baselines.registry import baseline_names, make_baselines
from tieralloc.policies.baselines.scene import Scene
from tieralloc.policies.baselines.tables import TABLE_BASELINES
from tieralloc.policies.baselines.tuning import defaults, tune

from tieralloc._bindings import Simulator
from tieralloc.trace import generate
from tieralloc.trace.stream import Stream


@pytest.fixture(scope="module")
def stream():
    return Stream.of(generate(num_samples=400, num_tables=3))


def replay(baseline, scene, capacity=200, caching="lru", count_from=0, **settings):
    tier = Tier(caching, capacity)
    return baseline.replay(scene, tier, {**defaults(baseline), **settings}, count_from=count_from)


def test_scene_orders_renumber_rows_and_keep_tables(stream):
    scene = Scene(stream, len(stream.accesses) // 2)
    raw, learned = scene.accesses("raw"), scene.accesses("learned")
    assert raw is stream.accesses
    pairs = set(zip(raw.tolist(), learned.tolist(), strict=True))
    assert len(pairs) == len(np.unique(raw)) == len(np.unique(learned))
    tables = np.searchsorted(stream.table_starts, raw, side="right") - 1
    assert np.array_equal(scene.table_of("raw")[raw], tables)
    assert np.array_equal(scene.table_of("learned")[learned], tables)
    counts = []
    for accesses in (raw, learned):
        simulator = Simulator("lru", 100, stream.rows)  # which does not hash row numbers
        simulator.run(accesses)
        counts.append(simulator.counts)
    assert counts[0] == counts[1]


def test_scene_learned_order_uses_only_training_accesses(stream):
    num_training = len(stream.accesses) // 2
    changed = stream.accesses.copy()
    changed[num_training:] = changed[num_training:][::-1]
    first = Scene(stream, num_training).accesses("learned")
    second = Scene(replace(stream, accesses=changed), num_training).accesses("learned")
    assert np.array_equal(first[:num_training], second[:num_training])


@pytest.mark.parametrize("baseline", TABLE_BASELINES, ids=lambda baseline: baseline.name)
@pytest.mark.parametrize("caching", ["lru", "s3fifo"])
def test_replay_counts_every_access_once(baseline, caching, stream):
    total = len(stream.accesses)
    outcome = replay(baseline, Scene(stream, total // 2), caching=caching, count_from=total // 4)
    assert outcome.counts["lookups"] == total - total // 4
    assert outcome.counts["prefetches_issued"] > 0
    assert outcome.nbytes > 0


def test_baselines_but_next_row_prefetch_recurring_groups():
    # Groups of rows, each always in the same order, in random order.
    random = np.random.default_rng(5)
    groups = random.permutation(600).reshape(100, 6)
    accesses = groups[random.integers(0, 100, 2000)].ravel().astype(np.uint64)
    stream = Stream(accesses, np.full(2000, 6, np.uint32), np.array([0, 600], np.uint64))
    scene = Scene(stream, len(accesses) // 2)
    alone = Simulator("lru", 60, 600, count_from=scene.num_training)
    alone.run(accesses)
    misses = alone.counts["on_demand_fetches"]
    fetches = {
        baseline.name: replay(baseline, scene, capacity=60, count_from=scene.num_training).counts[
            "on_demand_fetches"
        ]
        for baseline in TABLE_BASELINES
    }
    for name in ("cooccurrence", "domino", "bingo"):
        assert fetches[name] < 0.7 * misses, fetches
    assert fetches["next-row"] > 0.9 * misses


class FormulaBaseline:
    """A baseline whose on-demand fetches are a function of its settings."""

    name = "formula"

    def __init__(self, fetches):
        self.choices = {"a": (0, 1, 2), "b": (0, 1, 2, 3)}
        self.fetches, self.replayed = fetches, []

    def prepare(self, scene, settings):
        pass

    def replay(self, scene, tier, settings, *, count_from):
        self.replayed.append((settings, count_from))
        counts = {"on_demand_fetches": self.fetches(**settings), "lookups": 100}
        return Outcome(counts, 0)


def test_tune_independent_settings_finds_the_minimum(stream):
    baseline = FormulaBaseline(lambda a, b: 50 + (a - 2) ** 2 + (b - 1) ** 2)
    tuned = tune(baseline, Scene(stream, 300), Tier("lru", 10))
    assert tuned.settings == {"a": 2, "b": 1}
    assert tuned.miss_ratio == 0.5
    assert {count_from for _, count_from in baseline.replayed} == {300}
    tried = [json.dumps(settings) for settings, _ in tuned.tried]
    assert len(tried) == len(set(tried)) == len(baseline.replayed)  # no duplicates
    assert all(ratio == baseline.fetches(**settings) / 100 for settings, ratio in tuned.tried)


def test_tune_without_accesses_to_test_on_raises(stream):
    scene = Scene(stream, len(stream.accesses))
    with pytest.raises(ValueError, match="num_training: expected fewer than the"):
        tune(FormulaBaseline(lambda a, b: 1), scene, Tier("lru", 10))


def test_make_baselines_returns_all_by_name(tmp_path):
    pytest.importorskip("torch")
    assert baseline_names() == ["next-row", "cooccurrence", "domino", "bingo", "transfetch"]
    baselines = make_baselines(tmp_path, epochs=1)
    assert [*baselines] == baseline_names()
    assert baselines["transfetch"].training.epochs == 1
