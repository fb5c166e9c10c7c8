"""Table size: its effect on the time to create, open and look up a table, and on DRAM."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import numpy as np
import psutil
from numpy.typing import NDArray

import tieralloc as ta
from bench.peers.adapter import BaselineFailedError
from bench.peers.experiment import Experiment
from bench.peers.results import Result
from bench.peers.serving import serve_from_threads
from bench.peers.workloads import Batch, make_batches, uniform, zipf
from bench.scenery.turns import Spread, alternate, ratios

_BATCHES = 32
_MIB = 1 << 20


def run(experiment: Experiment) -> Iterator[Result]:
    yield from _make_and_open(experiment)
    yield from _lookups(experiment)


def _make(experiment: Experiment, name: str, rows: int) -> ta.TieredStore:
    settings, path = experiment.settings, experiment.directory / name
    slow = ta.File(path, reserve=False)
    store = ta.TieredStore(slow=slow, fast_rows=settings.scale_fast_rows)
    store.create_table("scale", rows, settings.dim)
    return store


def _make_and_open(experiment: Experiment) -> Iterator[Result]:
    settings, path = experiment.settings, experiment.directory / "made.tier"

    def seconds(opener: Callable[[], ta.TieredStore]) -> float:
        began = time.perf_counter()
        store = opener()
        passed = time.perf_counter() - began
        store.close()
        return passed

    def measure(rows: int, _: int) -> dict[str, float]:
        fast_rows = settings.scale_fast_rows
        times = {
            "make": seconds(lambda: _make(experiment, path.name, rows)),
            "open": seconds(lambda: ta.TieredStore(path, mode="r+", fast_rows=fast_rows)),
        }
        path.unlink()
        return times

    measures = {f"{rows:,} rows": partial(measure, rows) for rows in settings.scale_rows}
    turns = alternate("scale: make and open", settings.turns, measures)
    first, *_, last = measures
    for what in ("make", "open"):
        times = {name: [each[what] for each in of] for name, of in turns.items()}
        ratio = ratios(times[last], times[first])
        figures = {f"{name}, ms": Spread.of(values).median * 1e3 for name, values in times.items()}
        yield Result(f"{what}, {last} ÷ {first}", ratio, max=1.25, figures=figures)
    yield Result(f"open, {last}", Spread.of(times[last]), max=1.0, unit="s")


def _lookups(experiment: Experiment) -> Iterator[Result]:
    """Compare time per row, and DRAM, of the largest table and the smallest."""
    settings = experiment.settings
    stores: dict[int, ta.TieredStore] = {}
    hot: dict[int, NDArray[np.int64]] = {}
    with ExitStack() as stack:
        for rows in (settings.scale_rows[0], settings.scale_rows[-1]):
            hot[rows] = _hot_rows(rows, settings.scale_fast_rows)
            gc.collect()
            before = psutil.Process().memory_info().rss
            name = f"scale{rows}.tier"
            stack.callback((experiment.directory / name).unlink)
            stores[rows] = stack.enter_context(_make(experiment, name, rows))
            (table,) = stores[rows].tables.values()
            for some in np.array_split(np.sort(hot[rows]), 64):
                table.lookup(some)
            grown = psutil.Process().memory_info().rss - before
        dram = stores[rows].stats().dram
        sizes = {**dram.to_dict(), "growth of the process": grown}
        yield Result(
            f"DRAM beyond the vectors, {rows:,} rows",
            Spread.of([(dram.total_bytes - dram.vector_bytes) / _MIB]),
            max=64.0,
            unit="MiB",
            figures={f"{name}, MiB": size / _MIB for name, size in sizes.items()},
        )
        for name, draw in (("(a) Zipf", zipf), ("(b) uniform", uniform)):
            drawn = draw(settings.scale_fast_rows, np.random.default_rng(5))
            ranks = make_batches(drawn, _BATCHES, settings.bags, settings.bag_size)
            yield _time_per_row(experiment, name, ranks, stores, hot)


def _time_per_row(
    experiment: Experiment,
    name: str,
    ranks: list[Batch],
    stores: dict[int, ta.TieredStore],
    hot: dict[int, NDArray[np.int64]],
) -> Result:
    settings = experiment.settings

    def measure(rows: int, batches: list[Batch], _: int) -> float:
        call = stores[rows].embedding_bag
        served = serve_from_threads(lambda batch: call(*batch), batches, settings.seconds, 1)
        return 1e9 / served.rows_per_second

    measures = {}
    for rows, store in stores.items():
        batches = [Batch(hot[rows][batch.indices], batch.offsets) for batch in ranks]
        index = store.stats().fast_tier.index
        measures[f"{rows:,} rows, ns ({index} index)"] = partial(measure, rows, batches)
        store.reset_stats()
    times = alternate(f"scale {name}", settings.turns, measures)
    for rows, store in stores.items():
        if store.stats().on_demand_fetches > 0:
            raise BaselineFailedError(f"the table of {rows:,} rows missed, expected only hits")
    small, large = times.values()
    first, last = stores
    what = f"{name}, time per row: {last:,} rows ÷ {first:,}"
    figures = {name: Spread.of(values).median for name, values in times.items()}
    return Result(what, ratios(large, small), max=1.15, figures=figures)


def _hot_rows(rows: int, count: int) -> NDArray[np.int64]:
    """Draw distinct rows, one from each stretch of the table, in random order."""
    random = np.random.default_rng(6)
    stretch = rows // count
    drawn = np.arange(count) * stretch + random.integers(0, stretch, count)
    return random.permutation(drawn)
