"""TransFetch: what it learns from, what it says, and that it says it of the past alone."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tieralloc.policies.baselines import transfetch as module  # noqa: E402
from tieralloc.policies.baselines.baseline import Tier  # noqa: E402
from tieralloc.policies.baselines.scene import Scene, Stream  # noqa: E402
from tieralloc.policies.baselines.transfetch import (  # noqa: E402
    KEPT,
    REACH,
    TRAINING,
    DeltaLearner,
    Predictions,
    TransFetch,
    delta_bitmaps,
)
from tieralloc.policies.baselines.transfetch_model import (  # noqa: E402
    DeltaNetwork,
    segment_count,
)

SHORT = replace(TRAINING, epochs=4, batch_size=64, epoch_examples=3000, learning_rate=5e-3)


def repeating(length=3000, rows=900):
    """Strides of 3 from places drawn at random: rows to come are told by the last ones."""
    random = np.random.default_rng(1)
    starts = random.integers(0, rows - 30, length // 10)
    accesses = (starts[:, None] + 3 * np.arange(10)).ravel().astype(np.uint64)
    return Stream(accesses, np.full(length // 10, 10, np.uint32), np.zeros(rows, np.uint32))


def test_numbers_have_as_many_segments_as_they_need():
    assert [segment_count(rows) for rows in (1, 64, 65, 4096, 4097)] == [1, 1, 2, 2, 3]


def test_bitmaps_mark_deltas_within_reach():
    random = np.random.default_rng(0)
    rows = random.integers(0, 300, 50)
    after = random.integers(0, 300, (50, 7))
    marks = delta_bitmaps(torch.from_numpy(rows), torch.from_numpy(after)).numpy()
    deltas = [d for d in range(-REACH, REACH + 1) if d != 0]
    for row, following, marked in zip(rows, after, marks, strict=True):
        expected = {int(d) for d in following - row if d != 0 and abs(d) <= REACH}
        assert {deltas[place] for place in np.flatnonzero(marked)} == expected


def test_a_network_tells_rows_and_tables_apart():
    torch.manual_seed(0)
    network = DeltaNetwork(segments=2, tables=3, reach=5)
    rows = torch.arange(9)[None].repeat(3, 1)
    rows[1, 0] += 64
    tables = torch.zeros(3, 9, dtype=torch.long)
    tables[2, 0] = 1
    found = network(rows, tables)
    assert found.shape == (3, 10)
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_it_learns_strides_and_fetches_along_them():
    stream = repeating()
    scene = Scene(stream, len(stream.accesses) // 2)
    baseline = TransFetch(training=SHORT)
    settings = {"order": "raw", "least_chance": 0.5, "degree": KEPT, "all_accesses": True}
    outcome = baseline.replay(scene, Tier("lru", 60), settings, count_from=scene.learned)
    without = {**settings, "least_chance": 2.0}
    none = baseline.replay(scene, Tier("lru", 60), without, count_from=scene.learned)
    assert none.counts["prefetches_issued"] == 0
    assert outcome.counts["on_demand_fetches"] < 0.7 * none.counts["on_demand_fetches"]
    assert outcome.predict_seconds > 0
    assert outcome.nbytes > 10_000


def test_what_it_says_follows_from_the_past_alone():
    stream = repeating(2000)
    learned = 1000
    changed = stream.accesses.copy()
    changed[1500:] = changed[1500:][::-1]
    one_epoch = replace(SHORT, epochs=1)
    first = TransFetch(training=one_epoch).predict(Scene(stream, learned), "raw")
    other = Stream(changed, stream.lengths, stream.table_of)
    second = TransFetch(training=one_epoch).predict(Scene(other, learned), "raw")
    assert np.array_equal(first.rows[:1500], second.rows[:1500])
    assert np.allclose(first.probabilities[:1500], second.probabilities[:1500], atol=1e-5)


def test_the_seed_decides_and_checkpoints_save_training(tmp_path, monkeypatch):
    scene = Scene(repeating(1000), 600, seed=3)
    one_epoch = replace(SHORT, epochs=1)
    first = TransFetch(tmp_path, training=one_epoch).predict(scene, "raw")
    other = TransFetch(training=one_epoch).predict(replace(scene, seed=4), "raw")
    assert not np.allclose(first.probabilities, other.probabilities)
    monkeypatch.setattr(DeltaLearner, "loss", None)  # what would train again fails
    again = TransFetch(tmp_path, training=one_epoch).predict(scene, "raw")
    assert np.array_equal(first.rows, again.rows)


def test_rows_are_chosen_by_chance_and_degree():
    rows = np.arange(3 * KEPT, dtype=np.uint64).reshape(3, KEPT)
    probabilities = np.zeros((3, KEPT), dtype=np.float32)
    probabilities[0, :3] = [0.9, 0.5, 0.2]
    probabilities[2, :2] = [0.7, 0.6]
    predictions = Predictions(rows, probabilities, 0.0, 0)
    chosen, offsets = predictions.choose(0, 3, 0.5, KEPT)
    assert chosen.tolist() == [0, 1, 2 * KEPT, 2 * KEPT + 1]
    assert offsets.tolist() == [0, 2, 2, 4]
    assert predictions.choose(0, 3, 0.1, 1)[0].tolist() == [0, 2 * KEPT]
    assert predictions.choose(2, 3, 0.65, KEPT)[0].tolist() == [2 * KEPT]


def test_too_little_to_learn_from_is_refused():
    scene = Scene(repeating(1000), 100)
    with pytest.raises(ValueError, match="100 accesses to learn from, expected at least 200"):
        TransFetch().predict(scene, "raw")
    assert module.TransFetch.name == "transfetch"
