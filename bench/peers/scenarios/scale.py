"""Table size: its effect on the time to make and open a table, on DRAM and on a lookup's time."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

import tieralloc as ta
from bench.peers.adapter import BaselineFailedError
from bench.peers.experiment import Experiment
from bench.peers.results import Result
from bench.peers.serving import serve_from_threads
from bench.peers.workloads import Batch, Draw, make_batches, uniform, zipf
from bench.scenery.turns import Spread, alternate, ratios

_BATCHES = 32
_FILL_ROWS = 1 << 14
_MIB = 1 << 20


def run(experiment: Experiment) -> Iterator[Result]:
    yield from _make_and_open(experiment)
    yield from _lookups(experiment)


def _make(experiment: Experiment, path: Path, rows: int) -> ta.TieredStore:
    fast_rows = experiment.settings.scale_fast_rows
    store = ta.TieredStore(path, fast_rows=fast_rows, reserve=False)
    store.create_table("scale", rows, experiment.settings.dim)
    return store


def _make_and_open(experiment: Experiment) -> Iterator[Result]:
    settings, path = experiment.settings, experiment.directory / "made.tier"

    def measure(rows: int, _: int) -> tuple[float, float]:
        times = [time.perf_counter()]
        store = _make(experiment, path, rows)
        times.append(time.perf_counter())
        store.close()
        times.append(time.perf_counter())
        fast_rows = settings.scale_fast_rows
        store = ta.TieredStore.open(path, fast_rows=fast_rows, reserve=False)
        times.append(time.perf_counter())
        store.close()
        path.unlink()
        return times[1] - times[0], times[3] - times[2]

    measures = {f"{rows:,} rows": partial(measure, rows) for rows in settings.scale_rows}
    times = alternate("scale: make and open", settings.turns, measures)
    first, *_, last = measures
    yield Result(f"open, {last}", Spread.of([t for _, t in times[last]]), max=1.0, unit="s")
    for place, what in enumerate(("make table and file", "open")):
        seconds = {name: [each[place] for each in of] for name, of in times.items()}
        figures = {f"{name}, ms": Spread.of(s).median * 1e3 for name, s in seconds.items()}
        yield Result(
            f"{what}, {last} ÷ {first}",
            ratios(seconds[last], seconds[first]),
            max=1.25,
            figures=figures,
            note="target: no growth with rows, taken as at most 1.25",
        )


def _lookups(experiment: Experiment) -> Iterator[Result]:
    """Compare time per row, and DRAM, of the largest table and the smallest."""
    settings = experiment.settings
    sizes = (settings.scale_rows[0], settings.scale_rows[-1])
    with ExitStack() as stack:
        stores, hot = {}, {}
        for rows in sizes:
            gc.collect()
            before = psutil.Process().memory_info().rss
            hot[rows] = _hot_rows(rows, settings.scale_fast_rows)
            stores[rows] = stack.enter_context(_filled(experiment, rows, hot[rows]))
            grown = psutil.Process().memory_info().rss - before - hot[rows].nbytes
        dram = stores[rows].stats()["dram_bytes"]
        yield Result(
            f"DRAM beyond the vectors, {rows:,} rows",
            Spread.of([(dram["total"] - dram["vectors"]) / _MIB]),
            max=64.0,
            unit="MiB",
            figures={
                **{f"{name}, MiB": size / _MIB for name, size in dram.items()},
                "process grew by, MiB": grown / _MIB,
            },
        )
        random = np.random.default_rng(5)
        for name, draw in (("(a) Zipf", zipf), ("(b) uniform", uniform)):
            drawn = draw(settings.scale_fast_rows, random)
            yield _time_per_row(experiment, name, drawn, stores, hot)


def _time_per_row(
    experiment: Experiment,
    name: str,
    draw: Draw,
    stores: dict[int, ta.TieredStore],
    hot: dict[int, NDArray[np.int64]],
) -> Result:
    settings = experiment.settings
    ranks = make_batches(draw, _BATCHES, settings.bags, settings.bag_size)

    def measure(rows: int, batches: list[Batch], _: int) -> float:
        call = stores[rows].embedding_bag
        served = serve_from_threads(lambda batch: call(*batch), batches, settings.seconds, 1)
        return 1e9 / served.rows_per_second

    measures = {}
    for rows, store in stores.items():
        batches = [Batch(hot[rows][batch.indices], batch.offsets) for batch in ranks]
        index = store.stats()["index"]
        measures[f"{rows:,} rows, ns ({index} index)"] = partial(measure, rows, batches)
        store.reset_stats()
    times = alternate(f"scale {name}", settings.turns, measures)
    for rows, store in stores.items():
        if store.stats()["on_demand_fetches"] > 0:
            raise BaselineFailedError(f"the table of {rows:,} rows missed, expected only hits")
    small, large = times.values()
    first, last = stores
    return Result(
        f"{name}, time per row: {last:,} rows ÷ {first:,}",
        ratios(large, small),
        max=1.15,
        figures={name: Spread.of(values).median for name, values in times.items()},
    )


@contextmanager
def _filled(experiment: Experiment, rows: int, hot: NDArray[np.int64]) -> Iterator[ta.TieredStore]:
    """Make a table, and look up its hot rows once."""
    path = experiment.directory / f"scale{rows}.tier"
    with _make(experiment, path, rows) as store:
        (table,) = store.tables.values()
        ascending = np.sort(hot)
        for first in range(0, len(ascending), _FILL_ROWS):
            table.lookup(ascending[first : first + _FILL_ROWS])
        store.reset_stats()
        yield store
    path.unlink()


def _hot_rows(rows: int, count: int) -> NDArray[np.int64]:
    """Draw distinct rows, scattered over the table, in random order: one of each stretch."""
    random = np.random.default_rng(6)
    stretch = rows // count
    drawn = np.arange(count) * stretch + random.integers(0, stretch, count)
    return random.permutation(drawn)
