"""The training samples, scales and loss of recmg, against plain Python."""

from math import log

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tieralloc.policies.recmg.contexts import find_contexts  # noqa: E402
from tieralloc.policies.recmg.horizons import (  # noqa: E402
    eviction_ages,
    horizons_for,
    intervals_for,
)
from tieralloc.policies.recmg.model import HazardModel  # noqa: E402
from tieralloc.policies.recmg.samples import HISTORY_SHARES, Samples, draw_samples  # noqa: E402
from tieralloc.policies.recmg.task import HazardTask  # noqa: E402

from tieralloc.trace.stream import Stream, first_lengths  # noqa: E402

FEATURES = 5
NEVER_AGAIN = 2**32 - 1


def samples_of(times, distances, seed=0):
    features = np.random.default_rng(seed).normal(size=(len(times), FEATURES)).astype(np.float32)
    features[:, 0] = np.arange(len(times)) % 2
    return Samples(torch.from_numpy(features), torch.tensor(times), torch.tensor(distances))


def plain_loss(probabilities, times, distances, intervals, end):
    """Cross entropy of the intervals in which a sample is at risk."""
    losses = []
    for row, time, distance in zip(probabilities, times, distances, strict=True):
        lower = 0
        for chance, upper in zip(row, intervals, strict=True):
            if distance > lower and time + upper <= end:
                losses.append(-log(chance) if distance <= upper else -log(1 - chance))
            lower = upper
    return sum(losses) / max(len(losses), 1)


@settings(max_examples=60, deadline=None)
@given(
    drawn=st.lists(
        st.tuples(st.integers(1, 300), st.integers(1, 150) | st.just(NEVER_AGAIN)),
        min_size=2,
        max_size=40,
    ),
    num_intervals=st.integers(1, 4),
    end=st.integers(100, 320),
)
def test_hazard_loss_matches_plain_python(drawn, num_intervals, end):
    times, distances = map(list, zip(*sorted(drawn), strict=True))
    intervals = [32, 64, 128, 256][:num_intervals]
    known = [number for number, time in enumerate(times) if time <= end]
    assume(len(known) > 1)
    task = HazardTask(samples_of(times, distances), intervals, num_tables=2, end=end, seed=0)
    assert task.num_examples == len(known)
    chosen = torch.tensor(known[::2])
    with torch.inference_mode():
        chances = task.module(samples_of(times, distances).features[chosen]).double()
        loss = float(task.loss(chosen))
    expected = plain_loss(
        chances.tolist(), [times[i] for i in chosen], [distances[i] for i in chosen], intervals, end
    )
    assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_hazard_loss_ignores_uses_after_the_end():
    times, end = [10, 20, 30, 90], 100
    losses = []
    for distances in ([5, 70, NEVER_AGAIN, 40], [5, 75, 99, NEVER_AGAIN]):
        task = HazardTask(samples_of(times, distances), [32, 64], num_tables=2, end=end, seed=0)
        losses.append(float(task.loss(torch.arange(4)).detach()))
    assert losses[0] == losses[1]


def test_draw_samples_of_three_histories_ascend_in_time():
    rows = np.random.default_rng(0).integers(0, 300, 3000).astype(np.uint64)
    stream = Stream(rows, np.full(1000, 3, np.uint32), np.array([0, 300], np.uint64))
    samples = draw_samples(stream, [], seed=0)
    assert len(samples.features) == 9000 // len(HISTORY_SHARES) * len(HISTORY_SHARES)
    assert (samples.times.diff() >= 0).all()
    assert samples.times.min() > 300
    again = draw_samples(stream, [], seed=0)
    assert torch.equal(again.features, samples.features)
    assert torch.equal(samples.until(1000).times, samples.times[samples.times <= 1000])


def test_intervals_and_horizons_end_at_half_of_the_accesses():
    assert intervals_for(10) == [32]
    assert intervals_for(128) == [32, 64]
    assert intervals_for(10_000) == [32, 64, 128, 256, 512, 1024, 2048, 4096]
    assert horizons_for(10) == [32]
    assert horizons_for(10_000) == [32, 128, 512, 1024, 2048, 4096]


def test_eviction_ages_are_those_of_lru():
    accesses = np.arange(4000, dtype=np.uint64) % 100
    ages = dict(eviction_ages(accesses, 200, count_from=2000))
    assert list(ages) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert all(ages[capacity] == capacity for capacity in list(ages)[:-1])  # all are misses
    assert ages[128] == 128 * 2000


def test_hazard_model_ignores_constants_and_clamps_outliers():
    mean, deviation = torch.zeros(FEATURES), torch.ones(FEATURES)
    deviation[2] = 0
    model = HazardModel(2, mean, deviation, 3).eval()
    features = torch.zeros(2, FEATURES)
    features[1, 2] = 1e9
    chances = model(features)
    assert chances.shape == (2, 3)
    assert torch.equal(chances[0], chances[1])
    far, farther = features.clone(), features.clone()
    far[:, 3], farther[:, 3] = 6, 1e9
    assert torch.equal(model(far), model(farther))
    features[:, 0] = torch.tensor([1, 99])  # there is no table 99
    assert torch.isfinite(model(features)).all()


def test_find_contexts_returns_tables_that_repeat():
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


def test_first_lengths_cut_the_last_sample_short():
    assert first_lengths(np.array([2, 0, 3, 4]), 4).tolist() == [2, 0, 2]
    assert first_lengths(np.array([2, 0, 3, 4]), 5).tolist() == [2, 0, 3]
    assert first_lengths(np.array([2, 0, 3, 4]), 9).tolist() == [2, 0, 3, 4]
