"""Switches: SIGKILL at a random moment of a switch between two files, then every row of both.

Threads look up and update rows meanwhile. Promises: both files open; each row has the value of its
file's version or of an update of it; an acknowledged update is in one of the files with all rows.
"""

import mmap
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np

import tieralloc as ta

from .campaign import end_child, in_child, last_line, new_folder, start_child
from .model import MIXTURE, make_rows, open_store, read_store, table_name, versions_of

SIZES = ((300, 16), (120, 333))  # rows and dim of each table
UPDATES = 4000
FIRST_UPDATE = 10  # version of the first update; the files have versions 1 and 2


def run(campaign):
    for case in campaign.cases():
        rng = campaign.rng(case)
        with new_folder(rng) as folder:
            _kill_in_a_switch(campaign, case, rng, Path(folder))


class _Progress:
    """Counters in memory that a child shares."""

    def __init__(self):
        self.switch, self.started, self.done, self.is_switching = np.split(
            np.frombuffer(mmap.mmap(-1, 32), dtype=np.int64), 4
        )


def _kill_in_a_switch(campaign, case, rng, folder):
    paths = [folder / "version 1.tier", folder / "version 2.tier"]
    updates = [_random_update(rng) for _ in range(UPDATES)]
    progress = _Progress()
    seed = int(rng.integers(1 << 31))
    child = start_child(lambda: _serve(paths, updates, progress, np.random.default_rng(seed)))
    target = 1 + int(rng.integers(6))
    deadline = time.monotonic() + 30
    while progress.switch[0] < target and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(float(rng.exponential(0.01)))
    campaign.counts["kills in a switch"] += int(progress.is_switching[0])
    os.kill(child[0], signal.SIGKILL)
    ended = end_child(child, 60)
    if ended.kind != "died":
        campaign.fail("workload failed", case, last_line(ended))
        return
    campaign.counts["kills"] += 1
    campaign.counts["updates"] += int(progress.done[0])
    campaign.keep_files(folder, "*")
    found = []
    for path in paths:
        after = in_child(lambda: read_store(path, "r+"))  # noqa: B023
        if after.kind != "returned":
            campaign.fail("store does not open", case, f"{path.name}: {last_line(after)}")
            return
        versions, errors = after.value
        if errors:
            campaign.fail("row unreadable", case, f"{path.name}: {errors[0]}")
            return
        campaign.counts["rows"] += sum(map(len, versions.values()))
        found.append(versions)
    for kind, text in _judge(updates, int(progress.started[0]), int(progress.done[0]), found):
        campaign.fail(kind, case, text)


def _random_update(rng):
    """Return a table and some of its rows."""
    table = int(rng.integers(len(SIZES)))
    rows = SIZES[table][0]
    return table, np.sort(rng.choice(rows, int(rng.integers(1, 9)), replace=False))


def _serve(paths, updates, progress, rng):
    """Switch to and fro beside lookups and updates, until killed."""
    for version, path in enumerate(paths, 1):
        with ta.TieredStore(path, mode="w", fast_rows=8) as store:
            for table, (rows, dim) in enumerate(SIZES):
                created = store.create_table(table_name(table), rows, dim)
                created.load(make_rows(table, np.arange(rows), version, dim))
    failed = []
    with open_store(paths[0], rng, "r+") as store:

        def guarded(work):
            try:
                work()
            except BaseException as error:
                failed.append(error)

        def update():
            for number, (table, rows) in enumerate(updates):
                values = make_rows(table, rows, FIRST_UPDATE + number, SIZES[table][1])
                progress.started[0] = number + 1
                store.table(table_name(table)).update(rows, values)
                progress.done[0] = number + 1
                time.sleep(0.0003)

        def look_up():
            order = np.random.default_rng(1)
            while True:
                table = int(order.integers(len(SIZES)))
                rows = order.integers(0, SIZES[table][0], 50)
                found = versions_of(table, rows, store.table(table_name(table)).lookup(rows))
                if (found == MIXTURE).any() or (found < 1).any():
                    raise AssertionError(f"{table_name(table)}: versions {found.tolist()}")

        for work in (update, look_up):
            threading.Thread(target=guarded, args=(work,), daemon=True).start()
        while not failed:
            progress.switch[0] += 1
            progress.is_switching[0] = 1
            store.switch(paths[int(progress.switch[0]) % 2])
            progress.is_switching[0] = 0
            time.sleep(0.002)
    raise failed[0]


def _judge(updates, started, done, found):
    """Yield (kind, text) for broken promises; `found` are the versions of both files."""
    written = {}  # by table and row: versions of updates
    for number, (table, rows) in enumerate(updates[:started]):
        for row in rows:
            written.setdefault((table, row), set()).add(FIRST_UPDATE + number)
    for version, versions in enumerate(found, 1):
        for table in range(len(SIZES)):
            for row, seen in enumerate(versions[table_name(table)].tolist()):
                if seen == MIXTURE:
                    yield "row torn", f"version {version}: {table_name(table)}, row {row}"
                elif seen != version and seen not in written.get((table, row), ()):
                    yield "row of no call", f"version {version}: row {row} has version {seen}"
    for number, (table, rows) in enumerate(updates[:done]):
        least = FIRST_UPDATE + number
        if not any((versions[table_name(table)][rows] >= least).all() for versions in found):
            yield "update lost", f"update {number} of {table_name(table)}, rows {rows.tolist()}"
