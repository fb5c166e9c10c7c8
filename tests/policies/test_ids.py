"""The id space: an order of all rows in which co-accessed rows are near."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieralloc.policies.ids import IdSpace, learn_id_space


def sessions(seed, groups=40, size=10, length=8, number=1500):
    """Return accesses in runs, each in one group of rows, and the groups."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(groups * size).astype(np.uint64)
    group = np.repeat(rng.integers(0, groups, number), length)
    return names[group * size + rng.integers(0, size, len(group))], names.reshape(groups, size)


def test_id_space_places_co_accessed_rows_together():
    accesses, groups = sessions(0)
    space = learn_id_space(accesses, 400)
    spread = space.positions[groups].max(axis=1) - space.positions[groups].min(axis=1)
    # A contiguous group spans 9/399 of the line; a random one nearly all of it.
    assert np.median(spread) < 2 * 9 / 399


def test_id_space_separates_groups_of_different_phases():
    rng = np.random.default_rng(1)
    names = rng.permutation(400).astype(np.uint64)
    phase = np.repeat(np.arange(40) % 2, 60)  # in turns of 60 sessions
    group = np.repeat(phase * 20 + rng.integers(0, 20, len(phase)), 8)
    space = learn_id_space(names[group * 10 + rng.integers(0, 10, len(group))], 400)
    halves = space.positions[names].reshape(2, 200) > 0.5
    assert abs(halves[0].mean() - halves[1].mean()) > 0.95


@given(st.lists(st.integers(0, 11), max_size=40), st.integers(12, 20), st.integers(0, 3))
def test_order_holds_each_row_once_and_unseen_rows_last(accesses, rows, seed):
    space = learn_id_space(np.array(accesses, dtype=np.uint64), rows, seed)
    assert sorted(space.order.tolist()) == list(range(rows))
    unseen = sorted(set(range(rows)) - set(accesses))
    assert space.order.tolist()[rows - len(unseen) :] == unseen
    assert space.positions[space.order].tolist() == (np.arange(rows) / (rows - 1)).tolist()


@given(st.permutations(range(9)), st.lists(st.floats(-1, 2), max_size=20))
def test_nearest_returns_row_of_min_distance(order, points):
    space = IdSpace(np.array(order, dtype=np.uint64))
    nearest = space.nearest(np.array(points, dtype=np.float32))
    for point, row in zip(points, nearest.tolist(), strict=True):
        assert abs(space.positions[row] - point) <= abs(space.positions - point).min() + 1e-6


def test_nearest_own_position_returns_each_row():
    space = IdSpace(np.random.default_rng(2).permutation(100_000).astype(np.uint64))
    rows = np.arange(100_000, dtype=np.uint64)
    nearest = space.nearest(space.positions.astype(np.float32).reshape(100, 1000))
    assert (nearest == rows.reshape(100, 1000)).all()


def test_learn_id_space_same_seed_gives_same_order():
    accesses, _ = sessions(3)
    first, again = learn_id_space(accesses, 400), learn_id_space(accesses, 400)
    assert (first.order == again.order).all()


def test_id_space_of_one_row_is_a_point():
    space = learn_id_space(np.zeros(3, dtype=np.uint64), 1)
    assert space.positions.tolist() == [0]
    assert space.nearest(np.array([0.7])).tolist() == [0]


def test_learn_id_space_invalid_argument_raises():
    with pytest.raises(ValueError, match="rows: expected at least 1, got 0"):
        learn_id_space(np.empty(0, dtype=np.uint64), 0)
    with pytest.raises(ValueError, match="accesses: expected rows below 5, got 5"):
        learn_id_space(np.array([5], dtype=np.uint64), 5)
