"""Rows brought to the fast tier ahead of need, and rows kept there."""

import numpy as np


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
