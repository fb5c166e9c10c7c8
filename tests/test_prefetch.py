"""Rows brought to the fast tier ahead of need, and rows kept there."""

import numpy as np
from support import numbered_rows


def test_pinning_makes_room_by_writing_updated_rows_home(make_store):
    store = make_store(fast_rows=200, policy="lru")
    table = store.create_table("item", 1000, 4)
    updated = np.arange(20)
    table.update(updated, np.ones((20, 4), np.float32))
    table.lookup(np.arange(20, 200))
    # Too few to be cleaned in the background, more than there are spare slots.
    assert store.stats()["dirty_rows"] == 20
    table.pin(np.arange(300, 499))
    assert store.stats()["pinned_rows"] == 199
    assert (table.lookup(updated) == 1).all()


def test_pinned_rows_take_loaded_values_and_stay(make_store):
    store = make_store(fast_rows=16)
    table = store.create_table("item", 100, 4)
    table.pin([3, 4])
    table.update([3, 5], np.full((2, 4), -1, np.float32))
    table.load(numbered_rows(100, 4))
    assert store.stats()["pinned_rows"] == 2
    assert store.stats()["dirty_rows"] == 0
    np.testing.assert_array_equal(table.lookup(np.arange(100)), numbered_rows(100, 4))
    before = store.stats()["on_demand_fetches"]
    np.testing.assert_array_equal(table.lookup([3, 4]), numbered_rows(2, 4, first=3))
    assert store.stats()["on_demand_fetches"] == before
    table.update([4], np.ones((1, 4), np.float32))
    store.flush()
    table.unpin([3, 4])
    assert store.stats()["pinned_rows"] == 0
    table.lookup(np.arange(50, 100))
    np.testing.assert_array_equal(table.lookup([3, 4]), [numbered_rows(1, 4, first=3)[0], [1] * 4])
