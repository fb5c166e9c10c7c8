"""Replay of a trace through a real store: vectors in a slow tier, a pool of DRAM in front of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import psutil

from tieralloc._bindings import eviction_policy_names
from tieralloc._common.files import temporary_directory
from tieralloc._common.progress import Progress, Report, silent
from tieralloc.policy.learned import LearnedPolicy
from tieralloc.policy.planned import load_planned
from tieralloc.policy.registry import label_of, served_names
from tieralloc.store import TieredStore
from tieralloc.tiers import Engine, File, NumaMemory
from tieralloc.tools.disk import default_directory, file_system_of
from tieralloc.tools.emulated import EmulatedMemory
from tieralloc.tools.replay.baselines import Baseline, Memmap, PythonLru, write_rows
from tieralloc.tools.replay.callers import Call
from tieralloc.tools.replay.records import Load
from tieralloc.tools.replay.runs import Bench, Run, calls_within
from tieralloc.tools.replay.source import SourceRows
from tieralloc.tools.simulate import OPT, check_policies
from tieralloc.trace.stream import count_distinct, fast_rows, first_counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.order import Order
    from tieralloc.stats import StoreStats
    from tieralloc.trace import Trace

__all__ = ["replay"]

#: Maximum time of arrivals at each rate.
SECONDS = 10.0
#: Policy name in records of the store without a fast tier, the baseline of slow tiers in memory.
NO_FAST_TIER = "none"
_ROW_OVERHEAD = 64  # bytes of index, metadata and padding per row, at most


def replay(
    trace: Trace,
    policies: Sequence[str],
    fast_fractions: Sequence[float],
    *,
    embedding_dim: int = 64,
    dtype: str = "float32",
    batch_size: int | Literal["row"] = 256,
    count_from: float = 0.5,
    threads: int = 1,
    rates: Sequence[float] | Literal["auto"] | None = None,
    seconds: float = SECONDS,
    repeats: int = 1,
    engine: Engine = "auto",
    slow: NumaMemory | EmulatedMemory | None = None,
    directory: str | os.PathLike[str] | None = None,
    baselines: bool = False,
    auto_pause: bool = False,
    verify: bool = False,
    order: Order | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Serve a trace from a store with real bytes, for each policy and capacity.

    The trace's tables are created in a file, which is removed at the end, or in
    memory. Accesses before `count_from` warm the fast tier; the records count the rest.

    With a slow tier in memory the first record is a baseline without a fast tier, which reads all
    rows in place: policy "none", fast fraction 0.

    Without `rates` the loop is closed: each thread starts its next call when the previous one is
    answered. The stores of all policies are open at a time for each capacity, and serve the counted
    calls in turns: one segment of the calls after the other, another store first in each turn. With
    `baselines`, so do a store that holds all rows in DRAM (unless they take more than half of the
    memory), numpy.memmap of a plain file, and an LRU in Python before direct reads of that file.
    The last two have as much DRAM as the smallest store takes in all, and stop after half a second
    of each turn; their records cover the calls that they served.

    With `rates` it is open: calls arrive on a Poisson schedule, wait for a free thread,
    first come, first served, and latencies count from the arrival, the wake-up of a thread
    included. Each rate opens a store, warms it in a closed loop and serves the counted calls in
    order, each at most once: all of them, or the calls that arrive in `seconds`. All calls that
    arrived are answered. The counts cover these calls only.

    Parameters
    ----------
    trace : Trace
        The trace to serve.
    policies : sequence of str
        Eviction policies of a store; learned policies as ``NAME:DIR``. Records name them ``NAME``,
        or ``NAME:DIR`` if a name repeats.
    fast_fractions : sequence of float
        Capacities as fractions of the distinct rows of the whole trace, rounded down.
    embedding_dim : int
        Elements per row.
    dtype : {"float32", "int8", "int4"}
        Of the tables. Those of `baselines` have float32.
    batch_size : int or "row"
        Samples per call; the misses of a call are fetched as one batch. The first miss of a row in
        a call is an on-demand fetch, its repetitions are hits. "row" serves each access as a call,
        in the order of the stream; with one thread the counts then equal those of `simulate`.
    count_from : float
        Share of the accesses that warms the fast tier, in [0, 1). Counting starts at the first
        sample that begins at or after it.
    threads : int
        Number of concurrent callers.
    rates : sequence of float or "auto", optional
        Offered rates in calls per second. "auto" measures a closed loop, then 0.2, 0.4, 0.6, 0.8,
        0.9 and 1 times its rate, then higher rates, up to twice its rate, until one is saturated.
    seconds : float
        Maximum time of arrivals at each rate.
    repeats : int
        Runs at each rate, the policies in rotating order. The record is that of the run with the
        median latency.
    engine : str
        Fetch engine of the file, as for `tieralloc.File`.
    slow : NumaMemory or EmulatedMemory, optional
        Memory as the slow tier instead of a file.
    directory : path, optional
        Directory of the file; by default the temporary directory, or another one if that is memory.
        A file that a killed replay left in it is removed.
    baselines : bool
        Whether to measure the baselines too; they precede the policies. Closed loop and file only.
    auto_pause : bool
        Whether learned policies may pause, as in `tieralloc.LearnedPolicy`.
    verify : bool
        Compare every served vector with its source, outside the measured time; closed loop only.
    order : Order, optional
        Order of the rows in the file. Its map takes DRAM beside the fast rows (``dram``).
    seed : int
        Random seed of the arrivals.
    progress : callable
        Opens progress bars, as ``tieralloc._common.progress.bar`` does.

    Returns
    -------
    list of dict
        A record per policy, capacity and rate; with "auto" the closed loop precedes its rates.
        Fields of `simulate`, then rows_per_second (closed loop: median of the turns, per second in
        calls, times callers; open loop: per second from the start to the last answer),
        rows_per_second_quartiles [first, third] (closed loop),
        latency_us of a call {p50, p90, p99, p999, max} (each percentile if at least 10 calls exceed
        it: p99 needs 1,000 calls, p999 10,000), dram_bytes (in all, a policy's included),
        slow_tier, machine;
        loop ("closed" or "open"), rate_unit ("calls/s"), offered_rate (None in a closed loop),
        achieved_rate, turns; open loop only: repeats, latency_us_quartiles {p50: [first, third], …}
        of the repeats, backlog (calls waiting for a thread at the last
        arrival), backlog_max, saturated (less than 0.95 of the rate was served, or the backlog
        grew); latency_us_by_outcome (in the store, without the wait for a thread: hit for calls
        without an on-demand fetch, on_demand for the others), latency_curve_us [[fraction, µs], …],
        dram (its parts), embedding_dim, dtype, batch_size, threads, calls, verified (compared
        calls), emulated (whether the slow tier is); with `slow` also promotion and placement, as in
        `stats`, and extra_ns and overlap of an emulated slow tier. Records of `baselines` have
        ``baseline: True``, and no dram; on-demand fetches of numpy.memmap are page faults that
        read.

    Raises
    ------
    ValueError
        If a policy or an engine is unknown, a policy was trained for other tables, a fraction is
        out of range or less than one row, the trace is empty, `batch_size` or `threads` is below 1,
        no call arrives in `seconds` at a rate, `verify` or `baselines` are set with `rates`, or an
        order is of other tables or given with memory.
    OSError
        If the file cannot be created, loaded or read.
    MemoryError
        If the fast tier exceeds the available DRAM.
    VerificationError
        If `verify` is set and a served vector is wrong.
    """
    _check(trace, policies, batch_size, threads)
    if baselines and (slow is not None or rates is not None):
        raise ValueError("baselines: expected a closed loop from a file, got slow= or rates=")
    _check_load(rates, seconds, repeats, verify)
    accesses = trace.accesses()
    counted = first_counted(len(accesses), count_from)
    if len(accesses) == 0:
        raise ValueError(f"trace {trace.name!r}: no accesses; expected at least 1")
    distinct = count_distinct(accesses, int(trace.num_embeddings.sum()))
    capacities = [fast_rows(fraction, distinct) for fraction in fast_fractions]
    warm_up, calls = _split(trace, accesses, counted, batch_size)
    if not calls:
        raise ValueError(
            f"count_from: no sample of trace {trace.name!r} begins at or after access {counted} of "
            f"{len(accesses)}; expected a lower share, got {count_from}"
        )
    source = SourceRows(trace.num_embeddings.tolist(), embedding_dim, dtype)
    labels = {policy: label_of(policy, policies) for policy in policies}
    warm_up_rows = len(accesses) - sum(len(call.indices) for call in calls)
    tables = _Tables(trace, source, order, progress)
    with ExitStack() as stack:
        openers: list[Callable[[int], Baseline]] = []
        all_rows = None
        if slow is None:
            parent = default_directory() if directory is None else Path(directory)
            folder = stack.enter_context(temporary_directory(parent))
            open_store, slow_tier = _on_file(folder / "slow.tier", tables, engine, auto_pause)
            if baselines:
                openers = _baselines(folder / "rows.f32", source)
                all_rows = _rows_in_memory(source)
        else:
            open_store, slow_tier = _in_memory(slow, tables, auto_pause)
        bench = Bench(
            open_store,
            openers,
            all_rows,
            Load(trace.name, embedding_dim, dtype, batch_size, threads, warm_up_rows, slow_tier),
            source,
            warm_up,
            calls,
            seconds=seconds,
            repeats=repeats,
            verify=verify,
            seed=seed,
            progress=progress,
        )
        records: list[dict[str, Any]] = []
        for number, (fraction, capacity) in enumerate(zip(fast_fractions, capacities, strict=True)):
            runs = [Run(policy, labels[policy], fraction, capacity) for policy in policies]
            if slow is not None and number == 0:
                runs.insert(0, Run("lru", NO_FAST_TIER, 0.0, 0))
            if rates is None:
                records += bench.closed_loop(runs)
            else:
                records += bench.open_loop(runs, rates)
    names = list(dict.fromkeys(record["policy"] for record in records))
    return sorted(records, key=lambda record: names.index(record["policy"]))


def _baselines(path: Path, source: SourceRows) -> list[Callable[[int], Baseline]]:
    write_rows(path, source)
    return [partial(kind, path, source) for kind in (Memmap, PythonLru)]


def _rows_in_memory(source: SourceRows) -> int | None:
    """Return the number of all rows, None if they take more than half of the free memory."""
    rows = sum(source.num_embeddings)
    size = rows * (4 * source.embedding_dim + _ROW_OVERHEAD)
    return rows if size < psutil.virtual_memory().available / 2 else None


def _check(trace: Trace, policies: Sequence[str], batch_size: int | str, threads: int) -> None:
    if OPT in policies:
        raise ValueError(
            f"policy: {OPT} needs future accesses; expected an online policy (simulate runs {OPT})"
        )
    simple = [policy for policy in policies if ":" not in policy]
    check_policies(simple, [*eviction_policy_names(), *(f"{name}:DIR" for name in served_names())])
    for policy in policies:
        if policy not in simple:
            load_planned(policy).trained.check(trace)  # raises before any work
    if batch_size != "row" and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size: expected at least 1 or 'row', got {batch_size!r}")
    if threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}")


def _check_load(
    rates: Sequence[float] | Literal["auto"] | None, seconds: float, repeats: int, verify: bool
) -> None:
    if rates is None:
        return
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    if verify:
        raise ValueError(
            "verify: delays the callers, which open-loop latencies would include; expected no rates"
        )
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds: expected above 0, got {seconds}")
    if rates == "auto":
        return
    if not rates:
        raise ValueError(f"rates: expected at least one or 'auto', got {rates!r}")
    for rate in rates:
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"rates: expected finite and above 0 calls/s, got {rate}")
        if calls_within(seconds, rate) < 1:
            raise ValueError(
                f"rates: no call arrives in {seconds:g} s; expected at least {1 / seconds:g} "
                f"calls/s, got {rate:g}"
            )


def _split(
    trace: Trace, accesses: NDArray[np.uint64], counted: int, batch_size: int | Literal["row"]
) -> tuple[Callable[[], Iterator[Call]], list[Call]]:
    """Return a function that yields the warm-up calls, and the counted calls."""
    if batch_size == "row":
        stream = accesses.view(np.int64)
        return lambda: _row_calls(trace, stream[:counted]), [*_row_calls(trace, stream[counted:])]
    boundary = trace.sample_of_access(counted)
    before, after = trace.samples(0, boundary), trace.samples(boundary, trace.num_samples)
    calls = [Call(None, *batch) for batch in after.batches(batch_size)]
    return lambda: (Call(None, *batch) for batch in before.batches(batch_size)), calls


def _row_calls(trace: Trace, stream: NDArray[np.int64]) -> Iterator[Call]:
    tables = np.searchsorted(trace.first_rows, stream, side="right") - 1
    indices = stream - trace.first_rows[tables]
    one = np.array([0, 1], dtype=np.int64)
    for i, table in enumerate(tables.tolist()):
        yield Call(table, indices[i : i + 1], one)


class _Tables(NamedTuple):
    """Tables of the trace, to load into a store."""

    trace: Trace
    source: SourceRows
    order: Order | None
    progress: Progress

    def load(self, store: TieredStore) -> None:
        source = self.source
        for name, rows in zip(self.trace.table_names, source.num_embeddings, strict=True):
            order = self.order if self.order is not None and name in self.order.tables else None
            store.create_table(name, rows, source.embedding_dim, source.dtype, order=order)
        with self.progress("loading the tables", sum(source.num_embeddings), "rows") as done:
            for position, name in enumerate(self.trace.table_names):
                store.table(name).load(_reported(source.parts(position), done))


_Open: TypeAlias = Callable[[str, int], TieredStore]
_Describe: TypeAlias = "Callable[[StoreStats | None], str]"


def _on_file(
    path: Path, tables: _Tables, engine: Engine, auto_pause: bool
) -> tuple[_Open, _Describe]:
    """Load a file; return a function that opens a store on it, and one that describes it."""
    with TieredStore(slow=File(path, mode="w", engine=engine), fast_rows=1) as store:
        tables.load(store)

    def open_store(policy: str, capacity: int) -> TieredStore:
        slow = File(path, mode="r", engine=engine)
        return TieredStore(slow=slow, fast_rows=capacity, policy=_policy(policy, auto_pause))

    def describe(stats: StoreStats | None) -> str:
        engine = "" if stats is None else f"{stats.slow_tier.engine} on "
        return f"file: {engine}{file_system_of(path).kind}"

    return open_store, describe


def _in_memory(
    slow: NumaMemory | EmulatedMemory, tables: _Tables, auto_pause: bool
) -> tuple[_Open, _Describe]:
    """Return the same functions as `_on_file`; each store loads its own memory."""

    def open_store(policy: str, capacity: int) -> TieredStore:
        store = TieredStore(slow=slow, fast_rows=capacity, policy=_policy(policy, auto_pause))
        try:
            tables.load(store)
        except BaseException:
            store.close()
            raise
        return store

    def describe(stats: StoreStats | None) -> str:
        assert stats is not None  # no baseline serves from memory
        tier = stats.slow_tier
        where = "local memory" if isinstance(slow, EmulatedMemory) else tier.path
        return f"{tier.kind}: {where}, {tier.engine}"

    return open_store, describe


def _policy(policy: str, auto_pause: bool) -> str | LearnedPolicy:
    name, colon, directory = policy.partition(":")
    return LearnedPolicy(directory, name=name, auto_pause=auto_pause) if colon else policy


def _reported(parts: Iterable[NDArray[np.float32]], done: Report) -> Iterator[NDArray[np.float32]]:
    for part in parts:
        yield part
        done(len(part))
