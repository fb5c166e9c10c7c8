"""Rows, and the batches that look them up: (a) Zipf ids, (b) uniform ids, (c) recorded traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.peers.settings import Settings
from tieralloc import trace
from tieralloc.tools.replay.baselines import write_rows
from tieralloc.tools.replay.source import SourceRows

TRACES = ("trivago", "diginetica")
ZIPF_EXPONENT = 1.05
_CHECKED_SAMPLES = 64

Draw = Callable[[int], NDArray[np.int64]]


class Batch(NamedTuple):
    """A call: bag ``i = t * B + b`` is ``indices[offsets[i]:offsets[i + 1]]``, of table ``t``."""

    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """Batches to warm up with, and a segment of others for each turn."""

    name: str
    table_rows: tuple[int, ...]
    unused_rows: int  # at the end of the table, in no batch
    check: Batch  # a small batch
    warm: list[Batch]
    segments: list[list[Batch]]


def make_workload(key: str, settings: Settings, traces: Path) -> Workload:
    """Create workload "a" or "b", or that of a trace; FileNotFoundError if it is missing."""
    if key not in ("a", "b"):
        return _trace_workload(traces / f"{key}.npz", settings)
    # A fast tier that is one row short of the table notifies its policy of every access, and still
    # holds all looked-up rows.
    rows = settings.rows - 1
    draw = {"a": zipf, "b": uniform}[key](rows, np.random.default_rng(1))
    measured = settings.turns * settings.segment_batches
    warm = make_batches(draw, settings.warm_batches, settings.bags, settings.bag_size)
    (check,) = make_batches(draw, 1, _CHECKED_SAMPLES, settings.bag_size)
    batches = make_batches(draw, measured, settings.bags, settings.bag_size)
    name = {"a": f"(a) Zipf {ZIPF_EXPONENT}", "b": "(b) uniform"}[key]
    return Workload(name, (settings.rows,), 1, check, warm, _segments(batches, settings.turns))


def zipf(ids: int, random: np.random.Generator) -> Draw:
    """Draw the id of rank r with a weight of ``r ** -1.05``; ranks are random."""
    weights = np.arange(1, ids + 1, dtype=np.float64) ** -ZIPF_EXPONENT
    shares = np.cumsum(weights)
    shares /= shares[-1]
    id_of_rank = random.permutation(ids)
    return lambda count: id_of_rank[np.searchsorted(shares, random.random(count), side="right")]


def uniform(ids: int, random: np.random.Generator) -> Draw:
    """Draw ids uniformly."""
    return lambda count: random.integers(0, ids, count)


def make_batches(draw: Draw, count: int, bags: int, bag_size: int) -> list[Batch]:
    """Draw batches of bags of one size, of one table."""
    offsets = np.arange(0, bags * bag_size + 1, bag_size)
    return [Batch(draw(bags * bag_size), offsets) for _ in range(count)]


def _trace_workload(path: Path, settings: Settings) -> Workload:
    """Warm up with the first half of a trace, and measure with the second."""
    recorded = trace.read(path)
    batches = [Batch(*batch) for batch in recorded.batches(settings.trace_batch)]
    half = len(batches) // 2
    return Workload(
        f"(c) {path.stem}",
        tuple(recorded.num_embeddings.tolist()),
        0,
        Batch(*next(iter(recorded.batches(_CHECKED_SAMPLES)))),
        batches[:half],
        _segments(batches[half:], settings.turns),
    )


def _segments(batches: list[Batch], turns: int) -> list[list[Batch]]:
    size = len(batches) // turns
    return [batches[turn * size : (turn + 1) * size] for turn in range(turns)]


@dataclass(frozen=True)
class Dataset:
    """The rows of all tables, also in a plain file of float32 on the measured disk.

    Float32 sums of the values are exact in any order.
    """

    directory: Path
    table_rows: tuple[int, ...]
    dim: int

    @property
    def path(self) -> Path:
        return self.directory / "rows.f32"

    @property
    def rows(self) -> int:
        return sum(self.table_rows)

    @property
    def row_bytes(self) -> int:
        return self.dim * 4

    @property
    def source(self) -> SourceRows:
        return SourceRows(self.table_rows, self.dim)

    def table_parts(self, table: int) -> Iterator[NDArray[np.float32]]:
        """Yield the rows of a table in order, some MiB at a time."""
        return self.source.parts(table)

    def parts(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the rows of all tables as one table: the first row of each part, and the part."""
        first = 0
        for table in range(len(self.table_rows)):
            for part in self.table_parts(table):
                yield first, part
                first += len(part)

    def write(self) -> None:
        """Write the file."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write_rows(self.path, self.source)

    def bag_count(self, batch: Batch) -> int:
        """Return the bags of each table in a batch."""
        return (len(batch.offsets) - 1) // len(self.table_rows)

    def rows_of(self, batch: Batch) -> NDArray[np.int64]:
        """Return the rows of a batch, numbered across tables."""
        first_rows = np.cumsum((0, *self.table_rows[:-1]))
        table_ends = batch.offsets[:: self.bag_count(batch)]
        rows: NDArray[np.int64] = batch.indices + np.repeat(first_rows, np.diff(table_ends))
        return rows
