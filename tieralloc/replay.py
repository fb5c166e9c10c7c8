"""Replays a trace through a real store: real vectors, in a file and a pool of DRAM before it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from tieralloc import _machine
from tieralloc._closed_loop import Call, serve
from tieralloc._core import eviction_policy_names
from tieralloc._disk import default_directory, file_system_of
from tieralloc._files import temporary_directory
from tieralloc._progress import Progress, Report, silent
from tieralloc._source import SourceRows
from tieralloc.simulate import (
    OPT,
    check_policies,
    count_distinct,
    count_record,
    fast_rows,
    first_counted,
)
from tieralloc.store import TieredStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
#: Where latency curves have points: evenly on an axis whose every unit is ten times rarer.
_CURVE = tuple(1 - 10 ** (-step / 10) for step in range(61))


def replay(
    trace: Trace,
    policies: Sequence[str],
    fast_fractions: Sequence[float],
    *,
    embedding_dim: int = 64,
    batch_size: int | Literal["row"] = 256,
    count_from: float = 0.5,
    threads: int = 1,
    engine: str = "auto",
    directory: str | os.PathLike[str] | None = None,
    verify: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Serve a trace from a store with real bytes, closed loop, for each policy and capacity.

    The trace's tables, of float32 rows, are made in a file that is removed at the end. Each
    thread makes the next call as soon as it has the answer to its last one. Accesses before
    `count_from` warm the fast tier; figures are of the rest.

    Parameters
    ----------
    trace : Trace
        What to serve.
    policies : sequence of str
        Eviction policies of a store.
    fast_fractions : sequence of float
        Capacities as fractions of the distinct rows of the whole trace, rounded down.
    embedding_dim : int
        Elements of a row.
    batch_size : int or "row"
        Samples of a call, whose misses are fetched as one batch. Within a call the first miss of
        a row is an on-demand fetch, and its repetitions are hits. "row" makes a call of each
        access, in the stream's order; with one thread the counts are then those of `simulate`.
    count_from : float
        The share of the accesses that warms the fast tier, in [0, 1). Calls of samples are counted
        from the first sample that begins at or after it.
    threads : int
        Callers at a time.
    engine : str
        How the file is read, as for `TieredStore`.
    directory : path, optional
        Where to put the file; by default the temporary directory, or another one where that is
        memory.
    verify : bool
        Check every vector served, outside the time that is measured.
    seed : int
        For policies that draw at random.
    progress : callable
        Opens progress bars, as ``tieralloc._progress.bar`` does.

    Returns
    -------
    list of dict
        A record for each policy and capacity: what `simulate` gives; rows_per_second (per second
        that callers spent in calls, times callers), latency_us of a call {p50, p90, p99, p999,
        max}, dram_bytes, slow_tier, machine; and latency_us_by_outcome (of calls that found all
        rows, and of those that fetched on demand), latency_curve_us [[fraction, µs], …], dram (its
        parts), embedding_dim, batch_size, threads, calls, verified (calls checked).

    Raises
    ------
    ValueError
        For an unknown policy or engine, a fraction out of its range or less than one row, an
        empty trace, a batch size or thread count below 1.
    OSError
        Where the file cannot be made, filled or read.
    MemoryError
        Where the fast tier would take more DRAM than there is.
    VerificationError
        With `verify`, for a vector that is wrong.
    """
    _check(policies, batch_size, threads)
    accesses = trace.accesses()
    counted = first_counted(len(accesses), count_from)
    if len(accesses) == 0:
        raise ValueError(f"trace {trace.name!r} has no accesses, expected one or more")
    distinct = count_distinct(accesses, int(trace.num_embeddings.sum()))
    capacities = [fast_rows(fraction, distinct) for fraction in fast_fractions]
    warm_up, calls = _split(trace, accesses, counted, batch_size)
    if not calls:
        raise ValueError(
            f"no sample of trace {trace.name!r} begins at or after access {counted} of "
            f"{len(accesses)} (count_from {count_from}); count from earlier"
        )
    settings = _Settings(embedding_dim, batch_size, threads, engine, verify, seed)
    source = SourceRows(trace.num_embeddings.tolist(), embedding_dim)
    chosen = default_directory() if directory is None else Path(directory)
    with temporary_directory(chosen) as made:
        path = made / "slow.tier"
        _load(path, trace, source, engine, progress)
        records = []
        for policy in policies:
            for fraction, capacity in zip(fast_fractions, capacities, strict=True):
                with progress(f"replaying {policy} at {fraction:g}", len(accesses), "rows") as done:
                    run = _run(path, policy, capacity, warm_up, calls, source, settings, done)
                counts = count_record(policy, trace.name, fraction, capacity, run.stats)
                records.append({**counts, **_measures(run, path, settings)})
    return records


@dataclass(frozen=True)
class _Settings:
    embedding_dim: int
    batch_size: int | Literal["row"]
    threads: int
    engine: str
    verify: bool
    seed: int


class _Run(NamedTuple):
    stats: dict[str, Any]
    latencies: NDArray[np.int64]  # ns a counted call
    verified: int


def _check(policies: Sequence[str], batch_size: int | str, threads: int) -> None:
    if OPT in policies:
        raise ValueError(f"policy {OPT!r} knows the future, which no store does; simulate has it")
    check_policies(policies, eviction_policy_names())
    if batch_size != "row" and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size is {batch_size!r}, expected at least 1, or 'row'")
    if threads < 1:
        raise ValueError(f"threads is {threads}, expected at least 1")


def _split(
    trace: Trace, accesses: NDArray[np.uint64], counted: int, batch_size: int | Literal["row"]
) -> tuple[Callable[[], Iterator[Call]], list[Call]]:
    """Return what makes the calls that warm the fast tier, and the calls that are counted."""
    if batch_size == "row":
        stream = accesses.view(np.int64)
        return lambda: _row_calls(trace, stream[:counted]), [*_row_calls(trace, stream[counted:])]
    boundary = trace.sample_of_access(counted)
    before, after = trace.samples(0, boundary), trace.samples(boundary, trace.num_samples)
    size = batch_size
    calls = [Call(None, *batch) for batch in after.batches(size)]
    return lambda: (Call(None, *batch) for batch in before.batches(size)), calls


def _row_calls(trace: Trace, stream: NDArray[np.int64]) -> Iterator[Call]:
    tables = np.searchsorted(trace.first_rows, stream, side="right") - 1
    indices = stream - trace.first_rows[tables]
    one = np.array([0, 1], dtype=np.int64)
    for i, table in enumerate(tables.tolist()):
        yield Call(table, indices[i : i + 1], one)


def _load(path: Path, trace: Trace, source: SourceRows, engine: str, progress: Progress) -> None:
    with TieredStore(path, fast_rows=1, engine=engine) as store:
        for name, rows in zip(trace.table_names, source.num_embeddings, strict=True):
            store.create_table(name, rows, source.embedding_dim)
        with progress("loading the tables", sum(source.num_embeddings), "rows") as done:
            for position, name in enumerate(trace.table_names):
                store.table(name).load(_reported(source.parts(position), done))


def _reported(parts: Iterable[NDArray[np.float32]], done: Report) -> Iterator[NDArray[np.float32]]:
    for part in parts:
        yield part
        done(len(part))


def _run(
    path: Path,
    policy: str,
    capacity: int,
    warm_up: Callable[[], Iterator[Call]],
    calls: Sequence[Call],
    source: SourceRows,
    settings: _Settings,
    done: Report,
) -> _Run:
    checked = source if settings.verify else None
    options: dict[str, Any] = {"engine": settings.engine, "seed": settings.seed}
    with TieredStore.open(path, fast_rows=capacity, policy=policy, **options) as store:
        warming = serve(store, warm_up(), settings.threads, checked, done)
        store.reset_stats()
        with _uncollected():
            latencies = serve(store, calls, settings.threads, checked, done)
        verified = len(warming) + len(latencies) if settings.verify else 0
        return _Run(store.stats(), latencies, verified)


@contextmanager
def _uncollected() -> Iterator[None]:
    # A garbage collection among all the calls prepared would be timed as a call's latency.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _measures(run: _Run, path: Path, settings: _Settings) -> dict[str, Any]:
    stats = run.stats
    busy_seconds = run.latencies.sum() * 1e-9 / settings.threads
    dram = dict(stats["dram_bytes"])
    slow = stats["slow_tier"]
    return {
        "rows_per_second": stats["lookups"] / busy_seconds,
        "latency_us": _quantiles_us(run.latencies),
        "dram_bytes": dram.pop("total"),
        "slow_tier": f"{slow['kind']}: {slow['engine']} on {file_system_of(path).kind}",
        "machine": _machine.describe(),
        "latency_us_by_outcome": {
            "hit": _histogram_us(stats["latency_ns"]["call_hit"]),
            "on_demand": _histogram_us(stats["latency_ns"]["call_on_demand"]),
        },
        "latency_curve_us": _curve_us(run.latencies),
        "dram": dram,
        "embedding_dim": settings.embedding_dim,
        "batch_size": settings.batch_size,
        "threads": settings.threads,
        "calls": stats["calls"],
        "verified": run.verified,
    }


def _quantiles_us(latencies: NDArray[np.int64]) -> dict[str, float]:
    values = np.quantile(latencies, [*_QUANTILES.values(), 1.0], method="inverted_cdf")
    return dict(zip([*_QUANTILES, "max"], (values / 1000).tolist(), strict=True))


def _curve_us(latencies: NDArray[np.int64]) -> list[list[float]]:
    """Latency by fraction of the calls, as far as there are calls enough to tell."""
    fractions = [f for f in _CURVE if (1 - f) * len(latencies) >= 1]
    values = np.quantile(latencies, [*fractions, 1.0], method="inverted_cdf")
    return [list(pair) for pair in zip([*fractions, 1.0], (values / 1000).tolist(), strict=True)]


def _histogram_us(histogram: dict[str, int]) -> dict[str, float]:
    return {key: value if key == "count" else value / 1000 for key, value in histogram.items()}
