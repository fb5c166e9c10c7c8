"""Line 6: what a table's size costs: time to make and open it, DRAM, and time a lookup."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

import tieralloc as ta
from bench.peers.bench import Bench
from bench.peers.findings import Finding, at_most
from bench.peers.loads import Batch, make_batches, uniform, zipf
from bench.peers.measure import Served, Spread, alternate, ratios, serve_from_threads
from bench.peers.peer import PeerFailedError

NUMBER = 6
TITLE = "Scale: tables of any size on sparse files, with the same fast rows"
BATCHES = 32
FILL_ROWS = 1 << 14
MIB = 1 << 20


def run(bench: Bench) -> list[Finding]:
    return [*_make_and_open(bench), *_lookups(bench)]


def _make_and_open(bench: Bench) -> list[Finding]:
    """Time to make a table and to open its file, in turn for each size."""
    settings = bench.settings
    making: dict[int, list[float]] = {}
    opening: dict[int, list[float]] = {}

    def measure(rows: int, _: int) -> None:
        path = bench.directory / "made.tier"
        began = time.perf_counter()
        store = _make(path, rows, bench)
        making.setdefault(rows, []).append(time.perf_counter() - began)
        store.close()
        began = time.perf_counter()
        store = _open(path, bench)
        opening.setdefault(rows, []).append(time.perf_counter() - began)
        store.close()
        path.unlink()

    with bench.steps("scale: making", settings.rounds * len(settings.scale_rows)) as tick:
        alternate(
            settings.rounds,
            {str(rows): partial(measure, rows) for rows in settings.scale_rows},
            tick,
        )
    least, most = settings.scale_rows[0], settings.scale_rows[-1]
    return [
        Finding(f"open, {most:,} rows", Spread.of(opening[most]), at_most(1.0), "s"),
        *(
            Finding(
                f"{what}, {most:,} rows ÷ {least:,} rows",
                ratios(times[most], times[least]),
                at_most(1.25),
                figures={
                    f"{rows:,} rows, ms": Spread.of(values).median * 1e3
                    for rows, values in times.items()
                },
                note="target: does not grow with rows, taken as at most 1.25",
            )
            for what, times in (("make table and file", making), ("open", opening))
        ),
    ]


def _lookups(bench: Bench) -> list[Finding]:
    """Cost a row, and DRAM, of the largest table beside the smallest."""
    settings = bench.settings
    sizes = (settings.scale_rows[0], settings.scale_rows[-1])
    findings = []
    stores: dict[int, ta.TieredStore] = {}
    hot: dict[int, NDArray[np.int64]] = {}
    grown = {}
    try:
        for rows in sizes:
            gc.collect()
            before = psutil.Process().memory_info().rss
            stores[rows] = _make(bench.directory / f"scale{rows}.tier", rows, bench)
            hot[rows] = _hot_rows(rows, settings.scale_fast_rows)
            _fill(bench, stores[rows], hot[rows])
            grown[rows] = psutil.Process().memory_info().rss - before - hot[rows].nbytes
        findings.append(_dram(sizes[-1], stores[sizes[-1]], grown[sizes[-1]]))
        for name, draw in (("(a) Zipf", zipf), ("(b) uniform", uniform)):
            findings.append(_cost(bench, name, draw, stores, hot))
    finally:
        for rows, store in stores.items():
            store.close()
            (bench.directory / f"scale{rows}.tier").unlink()
    return findings


def _cost(
    bench: Bench,
    name: str,
    draw: Callable[[int, np.random.Generator], Callable[[int], Any]],
    stores: dict[int, ta.TieredStore],
    hot: dict[int, NDArray[np.int64]],
) -> Finding:
    settings = bench.settings
    places = make_batches(
        draw(settings.scale_fast_rows, np.random.default_rng(5)),
        BATCHES,
        settings.bags,
        settings.bag_size,
    )
    contenders = {}
    for rows, store in stores.items():
        batches = [Batch(hot[rows][batch.indices], batch.offsets) for batch in places]
        contenders[str(rows)] = partial(_serve, store, batches, settings.seconds)
        store.reset_stats()
    with bench.steps(f"scale {name}", settings.rounds * len(contenders)) as tick:
        results = alternate(settings.rounds, contenders, tick)
    for rows, store in stores.items():
        if store.stats()["on_demand_fetches"] > 0:
            raise PeerFailedError(f"the table of {rows} rows was to have all of them resident")
    costs = {
        rows: [1e9 / served.rows_per_second for served in results_of]
        for rows, results_of in results.items()
    }
    least, most = (str(rows) for rows in stores)
    return Finding(
        f"{name}, time a row: {int(most):,} rows ÷ {int(least):,}",
        ratios(costs[most], costs[least]),
        at_most(1.15),
        figures={
            f"{int(rows):,} rows, ns ({stores[int(rows)].stats()['index']} index)": Spread.of(
                values
            ).median
            for rows, values in costs.items()
        },
    )


def _serve(store: ta.TieredStore, batches: list[Batch], seconds: float, _: int) -> Served:
    return serve_from_threads(
        lambda batch: store.embedding_bag(batch.indices, batch.offsets), batches, seconds, 1
    )


def _dram(rows: int, store: ta.TieredStore, grown: int) -> Finding:
    dram = store.stats()["dram_bytes"]
    beyond = (dram["total"] - dram["vectors"]) / MIB
    parts = {f"{name}, MiB": size / MIB for name, size in dram.items()}
    return Finding(
        f"DRAM beyond the vectors, {rows:,} rows",
        Spread(beyond, beyond, beyond, 1),
        at_most(64.0),
        "MiB",
        figures={**parts, "process grew by, MiB": grown / MIB},
    )


def _make(path: Path, rows: int, bench: Bench) -> ta.TieredStore:
    store = ta.TieredStore(
        slow=ta.File(path, reserve=False), fast_rows=bench.settings.scale_fast_rows
    )
    store.create_table("scale", rows, bench.settings.dim)
    return store


def _open(path: Path, bench: Bench) -> ta.TieredStore:
    return ta.TieredStore(
        slow=ta.File(path, mode="r+", reserve=False), fast_rows=bench.settings.scale_fast_rows
    )


def _hot_rows(rows: int, count: int) -> NDArray[np.int64]:
    """As many rows as the fast tier holds, scattered over the table, in random order."""
    random = np.random.default_rng(6)
    if rows == count:
        return random.permutation(rows)
    # One row of each stretch, so that none comes twice.
    stretch = rows // count
    found = np.arange(count) * stretch + random.integers(0, stretch, count)
    return random.permutation(found)


def _fill(bench: Bench, store: ta.TieredStore, rows: NDArray[np.int64]) -> None:
    (table,) = store.tables.values()
    in_order = np.sort(rows)
    with bench.steps("scale: filling the fast tier", -(-len(rows) // FILL_ROWS)) as tick:
        for first in range(0, len(rows), FILL_ROWS):
            table.lookup(in_order[first : first + FILL_ROWS])
            tick()
    store.reset_stats()
