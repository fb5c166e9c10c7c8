"""Replays a trace through a real store: real vectors in a slow tier, a pool of DRAM before it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

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
from tieralloc.tools.replay.callers import Call
from tieralloc.tools.replay.runs import Bench, Settings, calls_within
from tieralloc.tools.replay.source import SourceRows
from tieralloc.tools.simulate import OPT, check_policies
from tieralloc.trace.stream import count_distinct, fast_rows, first_counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.stats import StoreStats
    from tieralloc.trace import Trace

#: How long calls arrive at a rate, at most.
SECONDS = 10.0
#: What records call the store without a fast tier, beside which those on slow memory are judged.
NO_FAST_TIER = "none"


def replay(
    trace: Trace,
    policies: Sequence[str],
    fast_fractions: Sequence[float],
    *,
    embedding_dim: int = 64,
    batch_size: int | Literal["row"] = 256,
    count_from: float = 0.5,
    threads: int = 1,
    rates: Sequence[float] | Literal["auto"] | None = None,
    seconds: float = SECONDS,
    engine: Engine = "auto",
    slow: NumaMemory | EmulatedMemory | None = None,
    directory: str | os.PathLike[str] | None = None,
    verify: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Serve a trace from a store with real bytes, for each policy and capacity.

    The trace's tables, of float32 rows, are made in a file that is removed at the end, or in memory
    that is the slow tier. Accesses before `count_from` warm the fast tier; figures are of the rest.

    Rows of a slow tier in memory can as well be read in place, with no fast tier at all: that comes
    first among the records then, as policy "none" with a fast fraction of 0.

    Without `rates` the loop is closed: each thread makes the next call as soon as it has the
    answer to its last one. With them it is open: calls arrive on a Poisson schedule whether or not
    those before them are answered, wait for a thread, first come, first served, and their
    latencies count from when they arrived, with the time that the machine took to wake a thread.
    Each rate opens the store anew, warms it, closed loop, and goes through the counted calls from
    their beginning, none of them twice: to their end, or as many as arrive in `seconds`, which are
    all answered, however long that takes. Counts are then of these calls alone.

    Parameters
    ----------
    trace : Trace
        What to serve.
    policies : sequence of str
        Eviction policies of a store, learned ones as ``NAME:DIR``, which work always, whatever
        that costs. Their records call them ``NAME``, or as they stand here where there are several
        of the name.
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
    rates : sequence of float or "auto", optional
        Calls a second to arrive. "auto" measures a closed loop first, and then 0.2, 0.4, 0.6, 0.8,
        0.9 and 1 of what that reached, and more, up to twice as much, until it is saturated.
    seconds : float
        How long calls arrive at each rate, at most.
    engine : str
        The way to read the file, as for `tieralloc.File`.
    slow : NumaMemory or EmulatedMemory, optional
        Memory as the slow tier instead of a file.
    directory : path, optional
        Where to put the file; by default the temporary directory, or another one where that is
        memory.
    verify : bool
        Check every vector served, outside the time that is measured: in a closed loop only.
    seed : int
        Of the arrivals.
    progress : callable
        Opens progress bars, as ``tieralloc._common.progress.bar`` does.

    Returns
    -------
    list of dict
        A record for each policy, capacity and rate, with "auto" the closed loop's before those of
        its rates: what `simulate` gives; rows_per_second (of a closed loop: per second that callers
        spent in calls, times callers; of an open one: from the beginning to the last answer),
        latency_us of a call {p50, p90, p99, p999, max}, dram_bytes, slow_tier, machine;
        loop ("closed" or "open"), rate_unit ("calls/s"), offered_rate (None in a closed loop) and
        achieved_rate in it; of an open loop backlog (calls waiting for a thread when the last
        arrived), backlog_max, saturated (less than 0.95 of the rate was served, or the backlog
        grew); and latency_us_by_outcome (in the store, without waiting for a thread: of calls that
        found all rows, and of those that fetched on demand), latency_curve_us [[fraction, µs], …],
        dram (its parts), embedding_dim, batch_size, threads, calls, verified (calls checked);
        emulated (whether the slow tier is), and with `slow` promotion and placement, as `stats` has
        them, and where it is emulated extra_ns and overlap.

    Raises
    ------
    ValueError
        For an unknown policy or engine, a fraction out of its range or less than one row, an
        empty trace, a batch size or thread count below 1, a rate at which no call arrives in
        `seconds`, rates with `verify`.
    OSError
        Where the file cannot be made, filled or read.
    MemoryError
        Where the fast tier would take more DRAM than there is.
    VerificationError
        With `verify`, for a vector that is wrong.
    """
    _check(policies, batch_size, threads)
    _check_load(rates, seconds, verify)
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
    settings = Settings(embedding_dim, batch_size, threads, seconds, verify)
    source = SourceRows(trace.num_embeddings.tolist(), embedding_dim)
    labels = {policy: label_of(policy, policies) for policy in policies}
    warm_up_rows = len(accesses) - sum(len(call.indices) for call in calls)
    runs = [
        (policy, labels[policy], fraction, capacity)
        for policy in policies
        for fraction, capacity in zip(fast_fractions, capacities, strict=True)
    ]
    tables = _Tables(trace, source, progress)
    with ExitStack() as stack:
        if slow is None:
            chosen = default_directory() if directory is None else Path(directory)
            path = stack.enter_context(temporary_directory(chosen)) / "slow.tier"
            open_store, slow_tier = _on_file(path, tables, engine)
        else:
            open_store, slow_tier = _in_memory(slow, tables)
            runs.insert(0, ("lru", NO_FAST_TIER, 0.0, 0))
        bench = Bench(
            open_store,
            slow_tier,
            trace.name,
            source,
            warm_up,
            warm_up_rows,
            calls,
            settings,
            seed,
            progress,
        )
        return [record for run in runs for record in bench.sweep(*run, rates)]


def _check(policies: Sequence[str], batch_size: int | str, threads: int) -> None:
    if OPT in policies:
        raise ValueError(f"policy {OPT!r} knows the future, which no store does; simulate has it")
    simple = [policy for policy in policies if ":" not in policy]
    check_policies(simple, [*eviction_policy_names(), *(f"{name}:DIR" for name in served_names())])
    for policy in policies:
        if policy not in simple:
            load_planned(policy)  # raises before any work is done
    if batch_size != "row" and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size is {batch_size!r}, expected at least 1, or 'row'")
    if threads < 1:
        raise ValueError(f"threads is {threads}, expected at least 1")


def _check_load(
    rates: Sequence[float] | Literal["auto"] | None, seconds: float, verify: bool
) -> None:
    if rates is None:
        return
    if verify:
        raise ValueError(
            "verify holds callers up, whose latencies at a rate count that; verify without rates"
        )
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds is {seconds}, expected above 0")
    if rates == "auto":
        return
    if not rates:
        raise ValueError(f"rates is {rates!r}, expected one or more, or 'auto'")
    for rate in rates:
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"rate is {rate} calls/s, expected above 0")
        if calls_within(seconds, rate) < 1:
            raise ValueError(f"no call arrives in {seconds:g} s at a rate of {rate:g} calls/s")


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


class _Tables(NamedTuple):
    """What a store is filled with."""

    trace: Trace
    source: SourceRows
    progress: Progress

    def fill(self, store: TieredStore) -> None:
        source = self.source
        for name, rows in zip(self.trace.table_names, source.num_embeddings, strict=True):
            store.create_table(name, rows, source.embedding_dim)
        with self.progress("loading the tables", sum(source.num_embeddings), "rows") as done:
            for position, name in enumerate(self.trace.table_names):
                store.table(name).load(_reported(source.parts(position), done))


_Open: TypeAlias = Callable[[str, int], TieredStore]
_Describe: TypeAlias = "Callable[[StoreStats], str]"


def _on_file(path: Path, tables: _Tables, engine: Engine) -> tuple[_Open, _Describe]:
    """Fill a file, and return what opens it for a policy and a capacity, and what describes it."""
    with TieredStore(slow=File(path, mode="w", engine=engine), fast_rows=1) as store:
        tables.fill(store)

    def open_store(policy: str, capacity: int) -> TieredStore:
        slow = File(path, mode="r", engine=engine)
        return TieredStore(slow=slow, fast_rows=capacity, policy=_unpaused(policy))

    def describe(stats: StoreStats) -> str:
        return f"file: {stats.slow_tier.engine} on {file_system_of(path).kind}"

    return open_store, describe


def _in_memory(slow: NumaMemory | EmulatedMemory, tables: _Tables) -> tuple[_Open, _Describe]:
    """Return as `_on_file` does; memory ends with its store, so that each one is filled anew."""

    def open_store(policy: str, capacity: int) -> TieredStore:
        store = TieredStore(slow=slow, fast_rows=capacity, policy=_unpaused(policy))
        try:
            tables.fill(store)
        except BaseException:
            store.close()
            raise
        return store

    def describe(stats: StoreStats) -> str:
        tier = stats.slow_tier
        where = "local memory" if isinstance(slow, EmulatedMemory) else tier.path
        return f"{tier.kind}: {where}, {tier.engine}"

    return open_store, describe


def _unpaused(policy: str) -> str | LearnedPolicy:
    name, colon, directory = policy.partition(":")
    return LearnedPolicy(directory, name=name, auto_pause=False) if colon else policy


def _reported(parts: Iterable[NDArray[np.float32]], done: Report) -> Iterator[NDArray[np.float32]]:
    for part in parts:
        yield part
        done(len(part))
