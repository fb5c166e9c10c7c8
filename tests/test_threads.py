"""Calls of several threads at once that could take something from each other."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def constant(value, rows=1, dim=4):
    return np.full((rows, dim), value, np.float32)


def test_updates_survive_tables_made_beside_them(make_store):
    store = make_store(fast_rows=64, reserve=False)
    table = store.create_table("item", 300, 4)
    done = threading.Event()

    def write(first):
        written = {}
        for value in range(1, 1 << 20):
            row = first + value % 100
            table.update([row], constant(value))
            written[row] = value
            if done.is_set():
                return written
        return written

    with ThreadPoolExecutor(3) as threads:
        writers = [threads.submit(write, first) for first in (0, 100, 200)]
        for n in range(60):
            store.create_table(f"other{n}", 10, 4)
        done.set()
    for writer in writers:
        for row, value in writer.result().items():
            assert table.lookup([row])[0].tolist() == [value] * 4
