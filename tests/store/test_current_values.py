"""Random calls of several threads read values that are current.

Each update writes a unique value, the time of its call, to all elements of a row. One clock times
all calls, so that the values that a lookup may return are known afterwards.
"""

import contextlib
import itertools
import threading
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support import POLICIES, real_folder, store_of


class Access(NamedTuple):
    row: int
    value: int
    began: int
    ended: int


class Driver:
    """The random calls of one thread, and the values that they wrote and read."""

    def __init__(self, store, table, clock, seed):
        self.store = store
        self.table = table
        self.clock = clock
        self.random = np.random.default_rng(seed)
        self.writes = []
        self.reads = []

    def run(self, calls):
        kinds = [self.look_up] * 6 + [self.pool, self.prefetch, self.pin, self.unpin, self.load]
        kinds += [self.update] * 6
        for kind in self.random.choice(np.array(kinds, dtype=object), calls):
            kind()
        for rare in (self.store.flush, self.store.stats, self.store.reset_stats):
            rare()

    def random_rows(self, max_rows=12):
        return self.random.permutation(len(self.table))[: self.random.integers(1, max_rows + 1)]

    def rows_of(self, value, count):
        return np.full((count, self.table.embedding_dim), value, np.float32)

    def update(self):
        rows = self.random_rows()
        began = next(self.clock)
        self.table.update(rows, self.rows_of(began, len(rows)))
        ended = next(self.clock)
        self.writes += [Access(row, began, began, ended) for row in rows.tolist()]

    def load(self):
        first, count = self.random.integers(0, len(self.table) - 3), 3
        began = next(self.clock)
        self.table.load(self.rows_of(began, count), start=int(first))
        ended = next(self.clock)
        self.writes += [Access(int(first) + i, began, began, ended) for i in range(count)]

    def look_up(self):
        rows = self.random_rows(30)
        began = next(self.clock)
        values = self.table.lookup(rows)
        self.record_reads(rows, values, began)

    def pool(self):
        rows = self.random_rows(30)
        began = next(self.clock)
        values = self.table.embedding_bag(rows, np.arange(len(rows)), mode="max")
        self.record_reads(rows, values, began)

    def record_reads(self, rows, values, began):
        ended = next(self.clock)
        assert (values == values[:, :1]).all(), f"torn: {values}"
        seen = values[:, 0].astype(int).tolist()
        self.reads += [
            Access(row, value, began, ended) for row, value in zip(rows.tolist(), seen, strict=True)
        ]

    def prefetch(self):
        self.table.prefetch(self.random_rows())

    def pin(self):
        with contextlib.suppress(ValueError):  # too many
            self.table.pin(self.random_rows(2))

    def unpin(self):
        self.table.unpin(self.random_rows(len(self.table)))


def check_reads(writes, reads):
    """Check that each read returns a value current during its call, and no older one later."""
    of_row = defaultdict(dict)
    for write in writes:
        of_row[write.row][write.value] = write
    newest_seen = {}
    for read in reads:
        known = of_row[read.row]
        began, ended = (-1, -1) if read.value == 0 else known[read.value][2:]
        assert began < read.ended, f"{read} before it was written"
        newer = [w for w in known.values() if w.began > ended and w.ended < read.began]
        assert not newer, f"{read} of {began}-{ended}, though {newer} had replaced it"
        last = newest_seen.get(read.row, -1)
        assert ended >= last, f"{read} of {began}-{ended}, older than an earlier read"
        newest_seen[read.row] = max(last, began)


@settings(max_examples=40)
@given(
    policy=st.sampled_from(POLICIES),
    capacity=st.integers(1, 24),
    rows=st.integers(4, 60),
    threads=st.integers(2, 5),
    prefetch_threads=st.integers(1, 3),
    tables=st.booleans(),
    resident=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
def test_threads_read_only_current_values(
    policy, capacity, rows, threads, prefetch_threads, tables, resident, seed
):
    options = {"policy": policy, "prefetch_threads": prefetch_threads}
    options |= {"fast_bytes": "4MiB"} if resident else {"fast_rows": capacity}
    clock = itertools.count(1)
    with real_folder() as folder:
        path = folder / "new.tier"
        with store_of(path, **options) as store:
            table = store.create_table("item", rows, 48)  # of three cache lines
            drivers = [Driver(store, table, clock, [seed, n]) for n in range(threads)]
            failures = []

            def drive(driver):
                try:
                    driver.run(60)
                except BaseException as failure:
                    failures.append(failure)

            running = [threading.Thread(target=drive, args=(driver,)) for driver in drivers]
            for thread in running:
                thread.start()
            for n in range(5 if tables else 0):
                store.create_table(f"other{n}", 3, 48)
            for thread in running:
                thread.join()
            if failures:
                raise failures[0]
            last = Driver(store, table, clock, seed)
            last.random_rows = lambda _=0: np.arange(rows)
            last.look_up()
            writes = [write for driver in drivers for write in driver.writes]
            for driver in [*drivers, last]:
                check_reads(writes, driver.reads)
        with store_of(path, "r", **options) as store:
            kept = store.table("item").lookup(np.arange(rows))
            np.testing.assert_array_equal(kept[:, 0], [read.value for read in last.reads])
