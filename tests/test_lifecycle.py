"""A store's beginning and end, and the bad days between: files, locks, disks, forks."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import numbered_rows, path_of

MIB = 1 << 20

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


# Files cut short


@pytest.fixture
def cut(make_store):
    """A store whose file was cut in the middle of table `item`, and the first row that is lost."""
    store = make_store(fast_rows=4)
    table = store.create_table("item", 1000, 16)
    table.load(numbered_rows(1000, 16))
    store.create_table("behind", 10, 16)
    path = path_of(store)
    # The last 512 rows, of 64 bytes each, and the other table's only block.
    os.truncate(path, os.stat(path).st_size - 4096 - 512 * 64)
    first_lost = (os.stat(path).st_size - 2 * MIB) // 64
    assert 0 < first_lost < 1000
    return store, table, first_lost


def test_rows_behind_a_cut_are_an_os_error_and_others_are_served(cut):
    store, table, lost = cut
    for rows in ([lost], [lost - 1, lost], [0, 999]):
        with pytest.raises(OSError, match="cut short") as caught:
            table.lookup(rows)
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == path_of(store)
    with pytest.raises(OSError, match="cut short"):
        store.table("behind").lookup([0])
    np.testing.assert_array_equal(table.lookup(np.arange(lost)), numbered_rows(lost, 16))
    table.prefetch([lost, lost - 1])  # a hint that comes to nothing
    np.testing.assert_array_equal(table.lookup([lost - 1]), numbered_rows(1, 16, first=lost - 1))


def test_counters_add_up_though_calls_fail(cut):
    store, table, lost = cut
    table.lookup([1, 1, 2])
    for _ in range(3):
        with pytest.raises(OSError, match="cut short"):
            table.lookup([1, 3, lost])
    stats = store.stats()
    assert stats["calls"] == 1
    assert stats["lookups"] == stats["hits"] + stats["on_demand_fetches"]
    assert stats["hits"] == 1


def test_a_file_cut_short_is_not_made_to_look_whole_again(cut):
    store, table, lost = cut
    path = path_of(store)
    size = os.stat(path).st_size
    new = np.full((1, 16), -1, np.float32)
    table.update([5], new)
    table.update([lost + 1], new)
    for refused in (
        store.flush,
        store.close,
        lambda: table.load(np.zeros((1, 16), np.float32), start=999),
        lambda: table.load(np.zeros((1, 16), np.float32), start=0),
        lambda: store.create_table("more", 10, 4),
    ):
        with pytest.raises(OSError, match=f"cut short to {size} bytes of") as caught:
            refused()
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, path)
    assert os.stat(path).st_size == size
    assert not store.closed
    assert store.stats()["dirty_rows"] == 2
    assert "cut short" in store.stats()["write_back_error"]
    for row in (5, lost + 1):
        np.testing.assert_array_equal(table.lookup([row]), new)
    # Let it end: what was cut off is long enough again.
    os.truncate(path, size + 4096 + 512 * 64)
    store.close()


def test_a_row_that_can_be_read_is_served_while_another_call_fails_beside_it(cut):
    """Both rows come by one read of the failing call, which the other call may wait for."""
    _, table, lost = cut
    stop = threading.Event()

    def fail():
        while not stop.is_set():
            with pytest.raises(OSError, match="cut short"):
                table.lookup([lost - 1, lost])

    with ThreadPoolExecutor(2) as threads:
        failing = [threads.submit(fail) for _ in range(2)]
        try:
            for n in range(2000):
                assert table.lookup([lost - 1])[0, 0] == lost - 1
                table.lookup(4 * n % 400 + np.arange(4))  # so that it is not resident next time
        finally:
            stop.set()
        for thread in failing:
            thread.result()
