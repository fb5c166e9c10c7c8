"""Times of calls on a device, by the pages that they wait for.

Requests with the bags of the trace are served by a store on the device: pinned rows are the hits,
random rows of other pages the misses. Levels from no read to the most reads take turns, so that a
slow spell of the machine meets all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tieralloc._bindings import rows_per_page
from tieralloc._common.files import temporary_directory
from tieralloc._common.progress import ignore
from tieralloc.store import TieredStore
from tieralloc.tiers import File

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.table import Table
    from tieralloc.tools.plan.curve import Workload

#: Bytes of the file that is written for the probe, at most.
PROBE_BYTES = 128 << 20
_PAGE = 4096
_MAX_PINNED = 1 << 15
_SOME_ROWS = 1 << 10  # for a row of each size that tables may have
_CHURN = 0.05  # slots for other rows, as a share of these: a miss is on the device then
_LEVELS = 10
_BLOCK = 6  # calls of a turn; the first one warms the CPU caches, and is not timed
_MIN_TURNS = 5
_QUANTILES = 256


class CallTimes(NamedTuple):
    """Distributions of the times of calls, by the pages that they wait for."""

    engine: str
    reads: NDArray[np.float64]  # (levels,), ascending, from 0
    quantiles_us: NDArray[np.float64]  # (levels, quantiles): ascending times, at equal distances

    def draw(self, reads: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return µs of calls with these reads, at these shares in [0, 1) of their distributions.

        Between two levels, and beyond the last one, quantiles are linear in the reads.
        """
        last = len(self.reads) - 2
        low = np.clip(np.searchsorted(self.reads, reads, side="right") - 1, 0, last)
        span = self.reads[low + 1] - self.reads[low]
        weight = (reads - self.reads[low]) / span
        place = (shares * self.quantiles_us.shape[1]).astype(np.int64)
        left, right = self.quantiles_us[low, place], self.quantiles_us[low + 1, place]
        drawn: NDArray[np.float64] = np.maximum(left + weight * (right - left), 0.0)
        return drawn

    def summary(self) -> list[dict[str, float]]:
        """Return the median and p99 of each level."""
        p50, p99 = np.quantile(self.quantiles_us, [0.5, 0.99], axis=1).tolist()
        levels = zip(self.reads.tolist(), p50, p99, strict=True)
        return [{"reads": reads, "p50_us": a, "p99_us": b} for reads, a, b in levels]

    @classmethod
    def of(cls, engine: str, samples: Sequence[tuple[float, Sequence[float]]]) -> CallTimes:
        """Return the distributions of (reads, times in µs) of each level.

        More reads take no less time: each quantile is the mean of its largest value up to a level
        and its smallest one from it.
        """
        levels = sorted(samples, key=lambda level: level[0])
        shares = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        times = np.array([np.quantile(times, shares) for _, times in levels])
        above = np.maximum.accumulate(times)
        below = np.minimum.accumulate(times[::-1])[::-1]
        return cls(engine, np.array([reads for reads, _ in levels]), (above + below) / 2)


def measure_calls(
    workload: Workload,
    max_reads: int,
    *,
    directory: Path,
    file: Path | None = None,
    seconds: float = 4.0,
    seed: int = 0,
    done: Callable[[int], object] = ignore,
) -> CallTimes:
    """Measure the calls of a workload with 0 to `max_reads` page reads.

    Parameters
    ----------
    workload : Workload
    max_reads : int
        Reads of the last level, fewer if the calls have fewer lookups.
    directory : path
        Of the file that is written, read and removed.
    file : path, optional
        A table file with the tables of the workload to read instead; it is not changed.
    seconds : float
        Time of the measurement, at least some calls per level.
    seed : int
        Random seed of calls and rows.
    done : callable
        Called after each turn of the levels with its milliseconds.

    Raises
    ------
    ValueError
        If a table of the workload is missing in `file`, or has another dim or dtype.
    OSError
        If a file cannot be written or read.
    """
    with _opened(workload, directory, file) as store:
        probe = _Probe(store, workload, np.random.default_rng(seed))
        levels = _levels(max_reads)
        samples: list[tuple[list[float], list[float]]] = [([], []) for _ in levels]
        probe.take_turn(levels[-1])
        start, turn, said = time.perf_counter(), 0, 0
        while turn < _MIN_TURNS or time.perf_counter() - start < seconds:
            for level, (reads, times) in zip(levels, samples, strict=True):
                mean_reads, took = probe.take_turn(level)
                reads.append(mean_reads)
                times += took
            turn += 1
            milliseconds = min(int(1000 * (time.perf_counter() - start)), int(1000 * seconds))
            done(milliseconds - said)
            said = milliseconds
        engine = store.stats().slow_tier.engine
    return CallTimes.of(engine, _distinct([(float(np.mean(r)), t) for r, t in samples]))


def _levels(max_reads: int) -> list[int]:
    """Return 0, 1 and more reads, in equal ratios."""
    last = max(2, max_reads)
    steps = np.geomspace(1, last, min(_LEVELS, last))
    return [0, *dict.fromkeys(np.rint(steps).astype(int).tolist())]


def _distinct(
    samples: Sequence[tuple[float, list[float]]],
) -> list[tuple[float, list[float]]]:
    """Join levels of about the same reads: those that the calls were too short for."""
    joined: list[tuple[float, list[float]]] = []
    for reads, times in sorted(samples, key=lambda level: level[0]):
        if joined and reads < joined[-1][0] + 0.5:
            joined[-1] = (joined[-1][0], joined[-1][1] + times)
        else:
            joined.append((reads, times))
    if len(joined) == 1:  # no call missed a row, as in a file of one page
        joined.append((joined[0][0] + 1, joined[0][1]))
    return joined


@contextmanager
def _opened(workload: Workload, directory: Path, file: Path | None) -> Iterator[TieredStore]:
    """Open a store on the file, or on one that is written in the directory and removed."""
    trace = workload.trace
    if file is not None:
        with _reader(file, _SOME_ROWS) as store:
            _check_tables(store, workload, file)
            sizes = [len(store.tables[name]) for name in trace.table_names]
            # Slots are shared with tables of other row sizes, in proportion to the rows.
            others = sum(map(len, store.tables.values())) / sum(sizes)
            slots = math.ceil(_slots(sizes) * others)
        with _reader(file, slots) as store:
            yield store
        return
    row_bytes = _PAGE // rows_per_page(workload.embedding_dim, workload.dtype)
    rows = trace.num_embeddings
    share = min(1.0, PROBE_BYTES / (float(rows.sum()) * row_bytes))
    with temporary_directory(directory) as folder:
        path = folder / "plan.tier"
        slow = File(path, mode="w", warm_restart_interval=None)
        with TieredStore(slow=slow, fast_rows=1) as store:
            for name, count in zip(trace.table_names, rows.tolist(), strict=True):
                size = max(1, int(share * count))
                table = store.create_table(name, size, workload.embedding_dim, workload.dtype)
                table.load(_rows(size, workload.embedding_dim))
            slots = _slots([len(table) for table in store.tables.values()])
        with _reader(path, slots) as store:
            yield store


def _rows(count: int, dim: int) -> Iterator[NDArray[np.float32]]:
    part = np.random.default_rng(0).random((min(count, max(1, (4 << 20) // dim)), dim))
    ones = part.astype(np.float32)
    for first in range(0, count, len(ones)):
        yield ones[: count - first]


def _reader(path: Path, slots: int) -> TieredStore:
    slow = File(path, mode="r", warm_restart_interval=None)
    return TieredStore(slow=slow, fast_rows=slots, policy="lru")


def _pinned_rows(sizes: Sequence[int]) -> list[int]:
    """Return the rows to pin of tables of these sizes: the same share of all, at most half."""
    share = min(0.5, _MAX_PINNED / sum(sizes))
    return [max(1, int(share * size)) for size in sizes]


def _slots(sizes: Sequence[int]) -> int:
    pinned = sum(_pinned_rows(sizes))
    return pinned + max(1, int(_CHURN * (sum(sizes) - pinned)))


def _check_tables(store: TieredStore, workload: Workload, file: Path) -> None:
    expected = (workload.embedding_dim, workload.dtype)
    for name in workload.trace.table_names:
        if name not in store.tables:
            raise ValueError(f"{file}: expected a table {name!r} as in the trace, got none")
        table = store.tables[name]
        if (got := (table.embedding_dim, table.dtype)) != expected:
            raise ValueError(f"{file}: expected table {name!r} of {expected}, got {got}")


class _Probe:
    """Calls with the bags of a workload, whose hits are pinned rows: the first of each table."""

    def __init__(self, store: TieredStore, workload: Workload, random: np.random.Generator) -> None:
        self._store = store
        self._random = random
        names = workload.trace.table_names
        self._tables: list[Table] = [store.tables[name] for name in names]
        sizes = [len(table) for table in self._tables]
        self._sizes = np.array(sizes)
        self._pinned = np.array(_pinned_rows(sizes))
        for table, count in zip(self._tables, self._pinned.tolist(), strict=True):
            table.pin(np.arange(count))
        self._batches = _batches(workload)
        self._samples = workload.batch_size

    def take_turn(self, reads: int) -> tuple[float, list[float]]:
        """Serve calls with about `reads` misses; return the pages read per call, and µs of each."""
        calls = [self._make_call(reads) for _ in range(_BLOCK)]
        outs = [
            np.empty(((len(offsets) - 1) // len(self._tables), self._width), dtype=np.float32)
            for _, offsets in calls
        ]
        before = self._store.stats().on_demand_device_reads
        times = []
        for (indices, offsets), out in zip(calls, outs, strict=True):
            start = time.perf_counter_ns()
            self._store.embedding_bag(indices, offsets, self._tables, out=out)
            times.append((time.perf_counter_ns() - start) / 1000)
        count = self._store.stats().on_demand_device_reads - before
        return count / len(calls), times[1:]

    @property
    def _width(self) -> int:
        return sum(table.embedding_dim for table in self._tables)

    def _make_call(self, reads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return a call of the workload with other rows: `reads` are not pinned."""
        tables, offsets = self._batches[int(self._random.integers(len(self._batches)))]
        random = self._random
        indices = (random.random(len(tables)) * self._pinned[tables]).astype(np.int64)
        free = self._sizes - self._pinned
        chosen = np.flatnonzero(free[tables])
        weights = np.maximum(free[tables[chosen]], 1) ** 0.5
        count = min(reads, len(chosen))
        if count:
            keys = random.exponential(size=len(chosen)) / weights
            missed = chosen[np.argpartition(keys, count - 1)[:count]]
            of = tables[missed]
            indices[missed] = self._pinned[of] + (random.random(count) * free[of]).astype(np.int64)
        return indices, offsets


def _batches(workload: Workload) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the table of each lookup, and the offsets, of up to 64 calls across the trace."""
    trace, size = workload.trace, workload.batch_size
    calls = math.ceil(trace.num_samples / size)
    batches = []
    for number in np.unique(np.linspace(0, calls - 1, 64).astype(int)).tolist():
        part = trace.samples(number * size, min((number + 1) * size, trace.num_samples))
        lookups = part.lengths.sum(axis=1, dtype=np.int64)
        if lookups.sum():
            batches.append((np.repeat(np.arange(trace.num_tables), lookups), part.offsets))
    return batches
