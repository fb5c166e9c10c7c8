"""Threads that look rows of deltas up, across tables, while deltas and updates go on."""

import threading

import numpy as np
import pytest
from support import store_of

import tieralloc as ta

ROWS, DIM = 600, 8


@pytest.mark.parametrize("budget", [{"fast_rows": 60}, {"fast_rows": 1200}, {"fast_bytes": "1MiB"}])
def test_calls_see_all_tables_at_one_version(tmp_path, budget):
    with store_of(tmp_path / "new.tier", **budget) as store:
        for name in ("item", "user"):
            store.create_table(name, ROWS, DIM)
        other = store.create_table("other", 50, DIM)
        stop, failures, applied = threading.Event(), [], [0]

        def look_up(seed):
            rng = np.random.default_rng(seed)
            while not stop.is_set():
                rows = rng.integers(0, ROWS, 40)
                at_least = applied[0]
                found = store.embedding_bag(
                    np.concatenate([rows, rows]), np.arange(81), ["item", "user"]
                )
                assert (found == found[0, 0]).all(), np.unique(found)
                assert found[0, 0] >= at_least

        def update(seed):
            rng = np.random.default_rng(seed)
            while not stop.is_set():
                other.update(rng.integers(0, 50, 5), rng.random((5, DIM), dtype=np.float32))
                store.table("item").prefetch(rng.integers(0, ROWS, 20))

        def run(call, seed):
            try:
                call(seed)
            except BaseException as failure:
                failures.append(failure)
                stop.set()

        calls = [(look_up, 1), (look_up, 2), (update, 3)]
        threads = [threading.Thread(target=run, args=call) for call in calls]
        for thread in threads:
            thread.start()
        rows = np.arange(ROWS)
        for version in range(1, 41):
            if stop.is_set():
                break
            values = np.full((ROWS, DIM), version, np.float32)
            parts = [("item", rows, values), ("user", rows[::2], values[::2])]
            parts.append(("user", rows[1::2], values[1::2]))
            store.apply(ta.Delta(version, version - 1, parts))
            applied[0] = version
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        assert store.version == 40
