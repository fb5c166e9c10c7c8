"""Concurrent calls that could lose updates of each other."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from support import path_of


def constant(value, rows=1, dim=4):
    return np.full((rows, dim), value, np.float32)


def test_close_during_calls_ends_them_and_keeps_updates(make_store):
    def repeat(call):
        try:
            while True:
                call()
        except ValueError as error:
            return str(error)

    for _ in range(20):
        store = make_store(fast_rows=16)
        path = path_of(store)
        table = store.create_table("item", 100, 4)
        written = []

        def write(table=table, written=written):
            table.update([len(written) % 100], constant(len(written)))
            written.append(len(written))

        calls = [write, store.flush, store.flush, store.reset_stats, lambda t=table: t.lookup([5])]
        with ThreadPoolExecutor(len(calls)) as threads:
            ended = [threads.submit(repeat, call) for call in calls]
            while len(written) < 50:
                pass
            store.close()
        assert {end.result() for end in ended} == {
            "the store is closed; open it again with TieredStore(path)"
        }
        with make_store.open(path) as again:
            values = again.table("item").lookup(np.arange(100))[:, 0]
        for value in written[-100:]:
            assert values[value % 100] == value
