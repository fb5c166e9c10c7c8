"""What is asked for: (a) Zipf over scrambled ids, (b) uniform ids, (c) real traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.peers.settings import Settings
from tieralloc import trace

#: Beside the checkout: real traces are no part of the project.
TRACES = Path(__file__).parents[3] / "shared" / "traces"
TRACE_KEYS = ("c:trivago", "c:diginetica")
ZIPF_EXPONENT = 1.05

Draw = Callable[[int], NDArray[np.int64]]


class Batch(NamedTuple):
    """A call: bag ``i = t * B + b`` is ``indices[offsets[i]:offsets[i + 1]]``, of table ``t``."""

    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class Load:
    """Batches to warm up with, and a segment of further ones for each alternation."""

    name: str
    table_rows: tuple[int, ...]
    unused_rows: int  # that no batch asks for
    warm: list[Batch]
    segments: list[list[Batch]]


def make_load(key: str, settings: Settings, traces: Path) -> Load:
    """Make load "a", "b", "c:trivago" or "c:diginetica"; real traces are in `traces`."""
    if key.startswith("c:"):
        return _trace_load(traces / f"{key[2:]}.npz", settings)
    # One row is never asked for. Without it a fast tier that is a row short of the table still
    # holds all that is asked for, and has a policy to tell of every access.
    draw = {"a": zipf, "b": uniform}[key](settings.rows - 1, np.random.default_rng(1))
    measured = settings.rounds * settings.segment_batches
    return Load(
        name={"a": f"(a) Zipf {ZIPF_EXPONENT}", "b": "(b) uniform"}[key],
        table_rows=(settings.rows,),
        unused_rows=1,
        warm=make_batches(draw, settings.warm_batches, settings.bags, settings.bag_size),
        segments=_segments(
            make_batches(draw, measured, settings.bags, settings.bag_size), settings.rounds
        ),
    )


def refusal(key: str, traces: Path) -> str | None:
    """Say why a load cannot be made here; None where it can."""
    if key.startswith("c:") and not (traces / f"{key[2:]}.npz").exists():
        return f"there is no {key[2:]}.npz where --traces says"
    return None


def zipf(ids: int, random: np.random.Generator) -> Draw:
    """Draw the id of rank r with a weight of ``r ** -1.05``; which id has which rank is random."""
    weights = np.arange(1, ids + 1, dtype=np.float64) ** -ZIPF_EXPONENT
    shares = np.cumsum(weights)
    shares /= shares[-1]
    id_of_rank = random.permutation(ids)
    return lambda count: id_of_rank[np.searchsorted(shares, random.random(count), side="right")]


def uniform(ids: int, random: np.random.Generator) -> Draw:
    """Draw every id as often as any other."""
    return lambda count: random.integers(0, ids, count)


def make_batches(draw: Draw, count: int, bags: int, bag_size: int) -> list[Batch]:
    """Batches of bags that are all of one size, of one table."""
    offsets = np.arange(0, bags * bag_size + 1, bag_size)
    return [Batch(draw(bags * bag_size), offsets) for _ in range(count)]


def _trace_load(path: Path, settings: Settings) -> Load:
    """Warm up with the first half of a trace, and measure with the second."""
    recorded = trace.read(path)
    batches = [Batch(*batch) for batch in recorded.batches(settings.trace_batch)]
    half = len(batches) // 2
    return Load(
        name=f"(c) {path.stem}",
        table_rows=tuple(int(rows) for rows in recorded.num_embeddings),
        unused_rows=0,
        warm=batches[:half],
        segments=_segments(batches[half:], settings.rounds),
    )


def _segments(batches: list[Batch], rounds: int) -> list[list[Batch]]:
    size = len(batches) // rounds
    return [batches[i * size : (i + 1) * size] for i in range(rounds)]
