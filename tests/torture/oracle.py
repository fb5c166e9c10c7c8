"""The oracle: threads look rows up, update, prefetch and flush; every row is compared.

Each row has one writer, so that its versions ascend: a lookup must return a version between the
last one acknowledged before the call and the last one begun before its end. Rounds take turns in
engine, policy, sizes, and number of threads; rows are compared again after each reopen.
"""

import threading
import time
from pathlib import Path

import numpy as np

import tieralloc as ta

from .campaign import in_child, last_line, new_folder
from .model import make_rows, table_name, versions_of

ENGINES = ("io_uring", "pread", "mmap")
DIMS = (8, 16, 16, 64, 64, 80, 333, 768, 1100)
POLICIES = ("lru", "lfu", "clock", "sieve", "s3fifo", "random")
ROUND_SECONDS = 4
OPENS = 3
MAX_BROKEN = 20


def run(campaign):
    for case in campaign.cases():
        rng = campaign.rng(case)
        engine = ENGINES[case % len(ENGINES)]
        seconds = max(1.0, min(ROUND_SECONDS, campaign.remaining))
        with new_folder(rng) as folder:
            path = Path(folder) / "oracle.tier"
            outcome = in_child(lambda: _Round(rng).run(path, engine, seconds, rng), timeout=300)  # noqa: B023
        if outcome.kind != "returned":
            campaign.fail("round failed", case, f"{engine}: {last_line(outcome)}")
            continue
        rows, updates, broken = outcome.value
        campaign.counts["rows"] += rows
        campaign.counts["updated rows"] += updates
        for kind, text in broken:
            campaign.fail(kind, case, f"{engine}: {text}")


class _Round:
    """Tables, and the versions of all of their rows: begun and acknowledged updates."""

    def __init__(self, rng):
        num_tables = int(rng.integers(1, 5))
        self.sizes = [
            (int(rng.integers(50, 3000)), int(rng.choice(DIMS))) for _ in range(num_tables)
        ]
        self.begun = [np.zeros(rows, dtype=np.int64) for rows, _ in self.sizes]
        self.done = [np.zeros(rows, dtype=np.int64) for rows, _ in self.sizes]
        self.workers = int(rng.choice([1, 2, 4, 8]))
        self.counts = np.zeros((self.workers, 2), dtype=np.int64)  # rows compared and updated
        self.broken = []

    def run(self, path, engine, seconds, rng):
        for part in range(OPENS):
            file = ta.File(path, engine=engine, prefetch_threads=int(rng.integers(1, 4)))
            policy, size = str(rng.choice(POLICIES)), {"fast_bytes": "64MiB"}  # small tables
            if rng.random() < 0.7:
                size = {"fast_rows": int(rng.choice([64, 300, 1000, 5000]))}
            with ta.TieredStore(slow=file, policy=policy, **size) as store:
                if part == 0:
                    for number, size in enumerate(self.sizes):
                        store.create_table(table_name(number), *size)
                end = time.monotonic() + seconds / OPENS
                seeds = rng.integers(1 << 31, size=self.workers)
                threads = [
                    threading.Thread(target=self._work, args=(store, end, worker, seed))
                    for worker, seed in enumerate(seeds)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        with ta.TieredStore(path, mode="r", fast_rows=64) as store:
            for number, (num_rows, _) in enumerate(self.sizes):
                self._look_up(store, number, np.arange(num_rows), False, 0)
        return *self.counts.sum(axis=0).tolist(), self.broken[:MAX_BROKEN]

    def _work(self, store, end, worker, seed):
        """Make random calls until time is up."""
        rng = np.random.default_rng(seed)
        try:
            while time.monotonic() < end and len(self.broken) < MAX_BROKEN:
                number = int(rng.integers(len(self.sizes)))
                num_rows = self.sizes[number][0]
                rows = (num_rows * rng.random(rng.choice([1, 10, 100, 400, 4000])) ** 3).astype(
                    np.int64
                )
                kind = rng.random()
                if kind < 0.7:
                    self._look_up(store, number, rows, rng.random() < 0.3, worker)
                elif kind < 0.9:
                    own = np.unique(rows // self.workers * self.workers + worker)
                    self._update(store, number, own[own < num_rows], worker)
                elif kind < 0.98:
                    store.table(table_name(number)).prefetch(rows)
                else:
                    store.flush()
        except Exception as error:
            self.broken.append(("call failed", f"{type(error).__name__}: {error}"))

    def _update(self, store, number, rows, worker):
        version = self.begun[number][rows] + 1
        self.begun[number][rows] = version
        values = make_rows(number, rows, version, self.sizes[number][1])
        store.table(table_name(number)).update(rows, values)
        self.done[number][rows] = version
        self.counts[worker, 1] += len(rows)

    def _look_up(self, store, number, rows, as_bags, worker):
        """Compare rows of a lookup, or of bags of one row each."""
        table, least = store.table(table_name(number)), self.done[number][rows]
        if as_bags:
            values = store.embedding_bag(rows, np.arange(len(rows) + 1), tables=[table])
        else:
            values = table.lookup(rows)
        most = self.begun[number][rows]
        versions = versions_of(number, rows, values)
        self.counts[worker, 0] += len(rows)
        wrong = np.flatnonzero((versions < least) | (versions > most))
        if len(wrong):
            at = wrong[0]
            seen = f"row {rows[at]}: version {versions[at]}, expected {least[at]} to {most[at]}"
            self.broken.append(("wrong row", f"table {number}, {seen}; {len(wrong)} rows"))
