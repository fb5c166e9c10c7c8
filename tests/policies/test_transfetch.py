"""TransFetch: its network, its predictions, and their independence of later accesses."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tieralloc.policies.baselines.baseline import Tier  # noqa: E402
from tieralloc.policies.baselines.scene import Scene  # noqa: E402
from tieralloc.policies.baselines.transfetch import (  # noqa: E402
    KEPT,
    REACH,
    TRAINING,
    DeltaTask,
    Predictions,
    TransFetch,
    delta_bitmaps,
)
from tieralloc.policies.baselines.transfetch_model import (  # noqa: E402
    DeltaNetwork,
    segment_count,
)

from tieralloc.trace.stream import Stream  # noqa: E402

SHORT = replace(TRAINING, epochs=4, batch_size=64, epoch_examples=3000, learning_rate=5e-3)


def strided_stream(length=3000, rows=900):
    """Runs of 10 accesses of stride 3 from random rows: the last rows determine the next."""
    random = np.random.default_rng(1)
    starts = random.integers(0, rows - 30, length // 10)
    accesses = (starts[:, None] + 3 * np.arange(10)).ravel().astype(np.uint64)
    lengths = np.full(length // 10, 10, np.uint32)
    return Stream(accesses, lengths, np.array([0, rows], np.uint64))


def test_segment_count_is_the_min_for_the_rows():
    assert [segment_count(rows) for rows in (1, 64, 65, 4096, 4097)] == [1, 1, 2, 2, 3]


def test_delta_bitmaps_hold_deltas_within_reach():
    random = np.random.default_rng(0)
    rows = random.integers(0, 300, 50)
    next_rows = random.integers(0, 300, (50, 7))
    bitmaps = delta_bitmaps(torch.from_numpy(rows), torch.from_numpy(next_rows)).numpy()
    deltas = [d for d in range(-REACH, REACH + 1) if d != 0]
    for row, after, bitmap in zip(rows, next_rows, bitmaps, strict=True):
        expected = {int(d) for d in after - row if d != 0 and abs(d) <= REACH}
        assert {deltas[bit] for bit in np.flatnonzero(bitmap)} == expected


def test_network_depends_on_rows_and_on_tables():
    torch.manual_seed(0)
    network = DeltaNetwork(segments=2, tables=3, reach=5)
    rows = torch.arange(9)[None].repeat(3, 1)
    rows[1, 0] += 64
    tables = torch.zeros(3, 9, dtype=torch.long)
    tables[2, 0] = 1
    logits = network(rows, tables)
    assert logits.shape == (3, 10)
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])


def test_transfetch_strided_stream_reduces_fetches():
    stream = strided_stream()
    scene = Scene(stream, len(stream.accesses) // 2)
    baseline = TransFetch(training=SHORT)
    settings = {"order": "raw", "least_chance": 0.5, "degree": KEPT, "all_accesses": True}
    outcome = baseline.replay(scene, Tier("lru", 60), settings, count_from=scene.num_training)
    without = {**settings, "least_chance": 2.0}
    none = baseline.replay(scene, Tier("lru", 60), without, count_from=scene.num_training)
    assert none.counts["prefetches_issued"] == 0
    assert outcome.counts["on_demand_fetches"] < 0.7 * none.counts["on_demand_fetches"]
    assert outcome.predict_seconds > 0
    assert outcome.nbytes > 10_000


def test_predictions_do_not_depend_on_later_accesses():
    stream = strided_stream(2000)
    changed = stream.accesses.copy()
    changed[1500:] = changed[1500:][::-1]
    one_epoch = replace(SHORT, epochs=1)
    first = TransFetch(training=one_epoch).predict(Scene(stream, 1000), "raw")
    other = replace(stream, accesses=changed)
    second = TransFetch(training=one_epoch).predict(Scene(other, 1000), "raw")
    assert np.array_equal(first.rows[:1500], second.rows[:1500])
    assert np.allclose(first.probabilities[:1500], second.probabilities[:1500], atol=1e-5)


def test_predictions_depend_on_seed_and_load_checkpoints(tmp_path, monkeypatch):
    scene = Scene(strided_stream(1000), 600, seed=3)
    one_epoch = replace(SHORT, epochs=1)
    first = TransFetch(tmp_path, training=one_epoch).predict(scene, "raw")
    other = TransFetch(training=one_epoch).predict(replace(scene, seed=4), "raw")
    assert not np.allclose(first.probabilities, other.probabilities)
    monkeypatch.setattr(DeltaTask, "loss", None)  # another training would raise
    again = TransFetch(tmp_path, training=one_epoch).predict(scene, "raw")
    assert np.array_equal(first.rows, again.rows)


def test_predictions_choose_by_probability_and_degree():
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


def test_transfetch_too_few_training_accesses_raises():
    scene = Scene(strided_stream(1000), 100)
    with pytest.raises(ValueError, match="at least 200 training accesses, got 100"):
        TransFetch().predict(scene, "raw")
    assert TransFetch.name == "transfetch"
