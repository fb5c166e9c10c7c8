"""Baselines on traces: how they are tuned, ordered and replayed."""

import json

import numpy as np
import pytest
from tieralloc.policies.baselines.baseline import Outcome, Tier
from tieralloc.policies.baselines.registry import baseline_names, make_baselines
from tieralloc.policies.baselines.scene import Scene, Stream
from tieralloc.policies.baselines.tables import TABLE_BASELINES
from tieralloc.policies.baselines.tuning import defaults, tune

from tieralloc._bindings import Simulator
from tieralloc.trace import generate


@pytest.fixture(scope="module")
def stream():
    return Stream.of(generate(num_samples=400, num_tables=3))


def replay(baseline, scene, capacity=200, caching="lru", count_from=0, **settings):
    tier = Tier(caching, capacity)
    return baseline.replay(scene, tier, {**defaults(baseline), **settings}, count_from=count_from)


def test_a_stream_cut_short_is_the_beginning_of_the_whole(stream):
    for end in (0, 1, len(stream.accesses) // 2, len(stream.accesses)):
        part = stream.until(end)
        assert part.lengths.sum() == len(part.accesses) == end
        assert np.array_equal(part.accesses, stream.accesses[:end])
        assert np.array_equal(part.lengths[:-1], stream.lengths[: len(part.lengths) - 1])


def test_ordered_rows_are_the_same_rows_by_other_numbers(stream):
    scene = Scene(stream, len(stream.accesses) // 2)
    renamed = scene.ordered("learned")
    assert scene.ordered("raw") is stream
    pairs = set(zip(stream.accesses.tolist(), renamed.accesses.tolist(), strict=True))
    assert len(pairs) == len(np.unique(stream.accesses)) == len(np.unique(renamed.accesses))
    assert np.array_equal(stream.table_of[stream.accesses], renamed.table_of[renamed.accesses])
    counts = []
    for each in (stream, renamed):
        simulator = Simulator("s3fifo", 100, stream.rows)
        simulator.run(each.accesses)
        counts.append(simulator.counts)
    assert counts[0] == counts[1]


def test_an_order_is_learned_from_the_past_alone(stream):
    learned = len(stream.accesses) // 2
    other = stream.accesses.copy()
    other[learned:] = other[learned:][::-1]
    first = Scene(stream, learned).ordered("learned").accesses[:learned]
    second = Scene(Stream(other, stream.lengths, stream.table_of), learned).ordered("learned")
    assert np.array_equal(first, second.accesses[:learned])


@pytest.mark.parametrize("baseline", TABLE_BASELINES, ids=lambda baseline: baseline.name)
@pytest.mark.parametrize("caching", ["lru", "s3fifo"])
def test_a_replay_counts_every_access_once(baseline, caching, stream):
    total = len(stream.accesses)
    outcome = replay(baseline, Scene(stream, total // 2), caching=caching, count_from=total // 4)
    assert outcome.counts["lookups"] == total - total // 4
    assert outcome.counts["prefetches_issued"] > 0
    assert outcome.nbytes > 0


def test_rows_that_recur_together_are_found_by_all_but_next_row():
    # Groups of rows, each always in the same order, among many others.
    random = np.random.default_rng(5)
    groups = random.permutation(600).reshape(100, 6)
    accesses = groups[random.integers(0, 100, 2000)].ravel().astype(np.uint64)
    stream = Stream(accesses, np.full(2000, 6, np.uint32), np.zeros(600, np.uint32))
    scene = Scene(stream, len(accesses) // 2)
    alone = Simulator("lru", 60, 600, count_from=scene.learned)
    alone.run(accesses)
    misses = alone.counts["on_demand_fetches"]
    left = {
        baseline.name: replay(baseline, scene, capacity=60, count_from=scene.learned).counts[
            "on_demand_fetches"
        ]
        for baseline in TABLE_BASELINES
    }
    assert all(left[name] < 0.7 * misses for name in ("cooccurrence", "domino", "bingo")), left
    assert left["next-row"] > 0.9 * misses


class Counted:
    """A baseline of which it is known how many fetches are left."""

    name = "counted"

    def __init__(self, fetches):
        self.choices = {"a": (0, 1, 2), "b": (0, 1, 2, 3)}
        self.fetches, self.asked = fetches, []

    def prepare(self, scene, settings):
        pass

    def replay(self, scene, tier, settings, *, count_from, report=lambda done: None):
        self.asked.append((settings, count_from))
        counts = {"on_demand_fetches": self.fetches(**settings), "lookups": 100}
        return Outcome(counts, 0)


def test_tuning_finds_the_best_where_settings_do_not_depend_on_each_other(stream):
    baseline = Counted(lambda a, b: 50 + (a - 2) ** 2 + (b - 1) ** 2)
    tuned = tune(baseline, Scene(stream, 300), Tier("lru", 10))
    assert tuned.settings == {"a": 2, "b": 1}
    assert tuned.miss_ratio == 0.5
    assert {count_from for _, count_from in baseline.asked} == {300}
    tried = [json.dumps(settings) for settings, _ in tuned.tried]
    assert len(tried) == len(set(tried)) == len(baseline.asked)  # none twice
    assert all(ratio == baseline.fetches(**settings) / 100 for settings, ratio in tuned.tried)


def test_tune_without_accesses_to_test_on_raises(stream):
    with pytest.raises(ValueError, match="no accesses to test"):
        tune(Counted(lambda a, b: 1), Scene(stream, len(stream.accesses)), Tier("lru", 10))


def test_make_baselines_by_name():
    assert baseline_names() == ["next-row", "cooccurrence", "domino", "bingo", "transfetch"]
    names = baseline_names()[:-1]
    assert [*make_baselines(names)] == names
    with pytest.raises(ValueError, match="baseline 'ghb' is unknown; known are next-row"):
        make_baselines(["ghb"])
