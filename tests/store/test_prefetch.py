"""Prefetches and pins."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import POLICIES, new_store, numbered_rows

ROWS = 1000


@pytest.fixture
def small(make_store):
    """Return a store of 16 rows with policy lru, and its table of 1000 x 4."""
    store = make_store(fast_rows=16, policy="lru")
    table = store.create_table("item", ROWS, 4)
    table.load(numbered_rows(ROWS, 4))
    return store, table


def wait_for(store, **wanted):
    """Return when `stats` has these values, within 30 s."""
    deadline = time.monotonic() + 30
    while True:
        stats = store.stats()
        values = {**vars(stats.fast_tier), **vars(stats)}
        current = {name: values[name] for name in wanted}
        if current == wanted:
            return
        assert time.monotonic() < deadline, f"expected {wanted}, got {current}"
        time.sleep(0.001)


# Prefetches


def test_prefetched_row_is_a_hit_and_useful_once(small):
    store, table = small
    assert table.prefetch([5, 6, 7]) == 3
    wait_for(store, resident_rows=3)
    for _ in range(2):
        np.testing.assert_array_equal(table.lookup([5, 6, 7]), numbered_rows(3, 4, first=5))
    stats = store.stats()
    assert (stats.prefetches_issued, stats.prefetches_useful) == (3, 3)
    assert (stats.hits, stats.on_demand_fetches) == (6, 0)


def test_prefetch_of_resident_row_is_not_queued(small):
    store, table = small
    table.lookup([1, 2])
    assert table.prefetch([1, 2]) == 0
    assert table.prefetch([1, 3]) == 1
    wait_for(store, prefetches_issued=1, resident_rows=3)


def test_prefetch_of_repeated_row_reads_once(small):
    store, table = small
    table.prefetch([9] * 50)
    wait_for(store, resident_rows=1)
    table.prefetch([10])
    wait_for(store, prefetches_issued=2)


def test_prefetch_beyond_queue_is_dropped_and_counted(make_store):
    store = make_store(fast_rows=16)
    table = store.create_table("item", 200_000, 4)
    queued = table.prefetch(np.arange(200_000))
    assert queued == 1 << 16
    assert store.stats().prefetches_dropped == 200_000 - queued
    store.reset_stats()
    assert store.stats().prefetches_dropped == 0


def test_batched_prefetch_makes_batched_bags_hit(make_store):
    store = make_store(fast_rows=64)
    for n in range(3):
        store.create_table(f"t{n}", 100, 4 << n)
    indices, offsets = [1, 2, 3, 4, 5, 6, 7], [0, 1, 3, 4, 4, 6, 7]
    assert store.prefetch(indices, offsets) == 7
    wait_for(store, resident_rows=7)
    store.embedding_bag(indices, offsets)
    assert store.stats().prefetches_useful == 7
    assert store.stats().on_demand_fetches == 0
    assert store.prefetch([9, 9], [0, 1], tables=["t2", "t0"], include_last_offset=False) == 2


# Pins


@given(
    policy=st.sampled_from(POLICIES),
    pinned=st.sets(st.integers(0, 59), min_size=1, max_size=15),
    others=st.lists(st.integers(0, 59), max_size=200),
)
def test_pinned_rows_hit_after_any_lookups(policy, pinned, others):
    with new_store(fast_rows=16, policy=policy) as store:
        table = store.create_table("item", 60, 4)
        table.load(numbered_rows(60, 4))
        rows = sorted(pinned)
        table.pin(rows)
        for row in others:
            assert table.lookup([row])[0, 0] == row
        store.reset_stats()
        np.testing.assert_array_equal(table.lookup(rows)[:, 0], rows)
        stats = store.stats()
        assert (stats.on_demand_fetches, stats.fast_tier.pinned_rows) == (0, len(rows))
        table.unpin(rows)
        assert store.stats().fast_tier.pinned_rows == 0
        table.lookup(np.arange(60))
        assert store.stats().fast_tier.resident_rows <= 16


def test_pin_too_many_rows_raises_and_pins_none(small):
    store, table = small
    table.pin([1, 2])
    with pytest.raises(ValueError, match="expected at most 15 pinned rows in the fast tier"):
        table.pin(np.arange(100, 114))
    assert store.stats().fast_tier.pinned_rows == 2
    table.pin(np.arange(100, 113))
    assert store.stats().fast_tier.pinned_rows == 15
    np.testing.assert_array_equal(table.lookup(np.arange(ROWS))[:, 0], np.arange(ROWS))
    table.unpin(np.arange(ROWS))
    table.pin(np.arange(100, 114))


def test_load_replaces_pinned_rows_which_stay_pinned(make_store):
    store = make_store(fast_rows=16)
    table = store.create_table("item", 100, 4)
    table.pin([3, 4])
    table.update([3, 5], np.full((2, 4), -1, np.float32))
    table.load(numbered_rows(100, 4))
    assert store.stats().fast_tier.pinned_rows == 2
    np.testing.assert_array_equal(table.lookup(np.arange(100)), numbered_rows(100, 4))
    before = store.stats().on_demand_fetches
    np.testing.assert_array_equal(table.lookup([3, 4]), numbered_rows(2, 4, first=3))
    assert store.stats().on_demand_fetches == before
    table.update([4], np.ones((1, 4), np.float32))
    store.flush()
    table.unpin([3, 4])
    assert store.stats().fast_tier.pinned_rows == 0
    table.lookup(np.arange(50, 100))
    np.testing.assert_array_equal(table.lookup([3, 4]), [numbered_rows(1, 4, first=3)[0], [1] * 4])
