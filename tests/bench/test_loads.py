"""What the peers are asked for: how often which row, and which part of a trace when."""

from dataclasses import replace

import numpy as np
import pytest

from bench.peers.loads import ZIPF_EXPONENT, make_load, refusal, uniform, zipf
from bench.peers.settings import QUICK
from tieralloc import trace


def shares_by_rank(draw, ids, count=200_000):
    return np.sort(np.bincount(draw(count), minlength=ids))[::-1] / count


def test_zipf_shares_fall_as_its_exponent_says():
    shares = shares_by_rank(zipf(1000, np.random.default_rng(0)), 1000)
    expected = np.arange(1, 1001) ** -ZIPF_EXPONENT
    expected /= expected.sum()
    assert shares[:10] == pytest.approx(expected[:10], rel=0.05)
    assert shares[100:].sum() == pytest.approx(expected[100:].sum(), rel=0.05)


def test_zipf_scatters_popular_ids():
    drawn = zipf(1000, np.random.default_rng(0))(100_000)
    popular = np.argsort(np.bincount(drawn, minlength=1000))[-20:]
    assert 100 < np.median(popular) < 900
    assert abs(np.corrcoef(np.arange(20), popular)[0, 1]) < 0.7


def test_uniform_draws_all_ids_alike():
    shares = shares_by_rank(uniform(100, np.random.default_rng(0)), 100)
    assert shares[0] < 1.2 * shares[-1]


@pytest.mark.parametrize("key", ["a", "b"])
def test_batches_have_the_sizes_asked_for_and_leave_the_unused_row_alone(key, tmp_path):
    settings = replace(QUICK, rows=50)
    load = make_load(key, settings, tmp_path)
    assert len(load.warm) == settings.warm_batches
    assert [len(segment) for segment in load.segments] == [settings.segment_batches] * 2
    rows = np.concatenate([batch.indices for part in (load.warm, *load.segments) for batch in part])
    assert set(np.unique(rows)) == set(range(50 - load.unused_rows))
    for batch in load.warm:
        assert (np.diff(batch.offsets) == settings.bag_size).all()
        assert len(batch.offsets) == settings.bags + 1


def test_a_trace_is_warmed_up_with_its_first_half_and_measured_with_its_second(tmp_path):
    lengths = np.ones((2, 80), dtype=np.int32)
    indices = np.tile(np.arange(80), 2)
    recorded = trace.Trace.from_lengths(indices, lengths, ["x", "y"], [80, 90])
    trace.write(recorded, tmp_path / "small.npz")
    load = make_load("c:small", replace(QUICK, trace_batch=10, rounds=2), tmp_path)
    assert load.table_rows == (80, 90)
    assert [int(batch.indices[0]) for batch in load.warm] == [0, 10, 20, 30]
    firsts = [[int(batch.indices[0]) for batch in segment] for segment in load.segments]
    assert firsts == [[40, 50], [60, 70]]
    assert all(len(batch.offsets) == 2 * 10 + 1 for batch in load.warm)


def test_a_trace_that_is_not_there_is_refused(tmp_path):
    assert "small.npz" in refusal("c:small", tmp_path)
    assert refusal("a", tmp_path) is None
