"""A store's beginning and end, and the bad days between: files, locks, disks, forks."""

import numpy as np
import pytest

CALLS = {
    "lookup": lambda store, table: table.lookup([0]),
    "embedding_bag": lambda store, table: table.embedding_bag([0], [0]),
    "batched embedding_bag": lambda store, table: store.embedding_bag([0], [0, 1]),
    "update": lambda store, table: table.update([0], np.ones((1, 4), np.float32)),
    "load": lambda store, table: table.load(np.ones((10, 4), np.float32)),
    "load of nothing": lambda store, table: table.load([], start=0),
    "prefetch": lambda store, table: table.prefetch([0]),
    "batched prefetch": lambda store, table: store.prefetch([0], [0, 1]),
    "pin": lambda store, table: table.pin([0]),
    "unpin": lambda store, table: table.unpin([0]),
    "create_table": lambda store, table: store.create_table("more", 1, 1),
    "flush": lambda store, table: store.flush(),
    "stats": lambda store, table: store.stats(),
    "reset_stats": lambda store, table: store.reset_stats(),
    "with": lambda store, table: store.__enter__(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("served", [False, True], ids=["never served", "served"])
def test_use_after_close_is_a_value_error(make_store, call, served):
    store = make_store()
    table = store.create_table("item", 10, 4)
    if served:
        table.update([1], np.ones((1, 4), np.float32))
    store.close()
    with pytest.raises(ValueError, match=r"the store is closed; open it again"):
        call(store, table)
    store.close()
    assert store.closed
    assert "closed" in repr(store)
