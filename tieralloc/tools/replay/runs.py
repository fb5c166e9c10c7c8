"""Runs of a replay: contenders take turns on segments of the counted calls, or an open loop."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from tieralloc._common.progress import Progress, Report, ignore
from tieralloc.store import TieredStore
from tieralloc.tools.replay.arrivals import poisson_arrivals
from tieralloc.tools.replay.baselines import Baseline
from tieralloc.tools.replay.callers import Call, Times, serve
from tieralloc.tools.replay.records import Load, baseline_record, median_run, store_record
from tieralloc.tools.replay.source import SourceRows
from tieralloc.tools.report import percent

if TYPE_CHECKING:
    from tieralloc.stats import StoreStats

#: Name in records of a store that holds all rows in DRAM.
ALL_IN_DRAM = "all in DRAM"
#: Turns of each contender in a closed loop, if there are as many calls.
TURNS = 10
#: Max seconds of a baseline's turn. It skips the rest of the segment, as accesses that warm it.
BASELINE_SECONDS = 0.5
#: Rates of "auto", as shares of the closed loop's rate. The sweep ends at the first saturated rate
#: at or above 1: shares above 1 allow for a closed loop measured while the machine was slow.
AUTO_SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0)
#: Rows per lookup that brings all rows into DRAM.
_LOOKUP_ROWS = 1 << 16


class Run(NamedTuple):
    """A policy, its name in records, and its fast tier."""

    policy: str
    label: str
    fraction: float
    capacity: int


@dataclass
class Server:
    """A contender that is open and warm: a run's store, or a baseline."""

    run: Run
    serving: TieredStore | Baseline
    warm_up_calls: int = 0
    turns: list[Times] = field(default_factory=list)
    stats: StoreStats | None = None  # of a store, while its callers held their read buffers

    def note_stats(self) -> None:
        """Keep the statistics of a store."""
        if isinstance(self.serving, TieredStore):
            self.stats = self.serving.stats()


@dataclass(frozen=True)
class Bench:
    """Loaded slow tiers, and the calls to serve from them.

    Parameters
    ----------
    open_store : callable
        Opens a store for a policy and a capacity.
    baselines : sequence of callable
        Each opens a baseline with a number of bytes of DRAM.
    all_rows : int or None
        Rows of a store that holds all rows in DRAM, as another baseline; None: without it.
    load : Load
        What all records of the replay share.
    source : SourceRows
        Values of the slow tier's rows.
    warm_up : callable
        Returns an iterator of the calls that warm the fast tier.
    calls : sequence of Call
        The counted calls, in order.
    seconds, repeats, verify, seed, progress
        As for `replay`.
    """

    open_store: Callable[[str, int], TieredStore]
    baselines: Sequence[Callable[[int], Baseline]]
    all_rows: int | None
    load: Load
    source: SourceRows
    warm_up: Callable[[], Iterator[Call]]
    calls: Sequence[Call]
    seconds: float
    repeats: int
    verify: bool
    seed: int
    progress: Progress

    def closed_loop(self, runs: Sequence[Run]) -> list[dict[str, Any]]:
        """Serve the counted calls from all contenders of a fast tier, in turns.

        Each turn is a segment of the calls, which all contenders serve one after the other; the
        first one changes with the turn.
        """
        rows = self.load.warm_up_rows + sum(len(call.indices) for call in self.calls)
        contenders = len(runs) + len(self.baselines) + (self.all_rows is not None)
        fraction = runs[-1].fraction
        with (
            self.progress(f"serving at {percent(fraction)}", contenders * rows, "rows") as done,
            ExitStack() as stack,
        ):
            servers = self._open_all(runs, stack, done)
            turns = min(TURNS, len(self.calls))
            ends = [len(self.calls) * turn // turns for turn in range(turns + 1)]
            for turn in range(turns):
                segment = self.calls[ends[turn] : ends[turn + 1]]
                for i in range(len(servers)):
                    self._take_turn(servers[(turn + i) % len(servers)], segment, done)
            return [self._record(server) for server in servers]

    def _open_all(self, runs: Sequence[Run], stack: ExitStack, done: Report) -> list[Server]:
        """Open and warm the contenders: baselines with the DRAM that a store takes in all."""
        servers, taken = [], []
        for run in runs:
            store = stack.enter_context(self.open_store(run.policy, run.capacity))
            server = Server(run, store)
            times = serve(
                store,
                self.warm_up(),
                self.load.threads,
                self._expected,
                done,
                at_end=server.note_stats,
            )
            server.warm_up_calls = len(times.due)
            servers.append(server)
            taken += [] if server.stats is None else [server.stats.dram.total_bytes]
        fraction = runs[-1].fraction
        references = []
        if self.all_rows is not None:
            store = stack.enter_context(self.open_store("lru", self.all_rows))
            _lookup_all(store)
            run = Run("lru", ALL_IN_DRAM, fraction, self.all_rows)
            references.append(Server(run, store))
        for open_baseline in self.baselines:
            baseline = open_baseline(min(taken))
            stack.callback(baseline.close)
            _warm(baseline, self.warm_up())
            run = Run("", baseline.label, fraction, baseline.fast_rows)
            references.append(Server(run, baseline))
        done(len(references) * self.load.warm_up_rows)
        for server in servers + references:
            if isinstance(server.serving, TieredStore):
                server.serving.reset_stats()
        return references + servers

    def _take_turn(self, server: Server, segment: Sequence[Call], done: Report) -> None:
        serving, threads = server.serving, self.load.threads
        with _no_garbage_collection():
            if isinstance(serving, TieredStore):
                at_end = server.note_stats
                server.turns.append(
                    serve(serving, segment, threads, self._expected, done, at_end=at_end)
                )
                return
            calls = _until(segment, monotonic() + BASELINE_SECONDS)
            times = serve(serving, calls, threads, self._expected, done, settle=serving.settle)
        server.turns.append(times)
        skipped = segment[len(times.due) :]
        if skipped:
            _warm(serving, skipped)
            done(sum(len(call.indices) for call in skipped))

    @property
    def _expected(self) -> SourceRows | None:
        return self.source if self.verify else None

    def _record(self, server: Server) -> dict[str, Any]:
        run, serving, turns = server.run, server.serving, server.turns
        calls = server.warm_up_calls + sum(len(times.due) for times in turns)
        verified = calls if self.verify else 0
        if isinstance(serving, Baseline):
            return baseline_record(run, serving, turns, self.load, verified=verified)
        assert server.stats is not None  # a turn has at least one call
        record = store_record(run, server.stats, turns, self.load, verified=verified)
        return record | ({"baseline": True} if run.label == ALL_IN_DRAM else {})

    def open_loop(
        self, runs: Sequence[Run], rates: Sequence[float] | Literal["auto"]
    ) -> list[dict[str, Any]]:
        """Serve arriving calls from the policies of a fast tier, which take turns at each rate."""
        found: list[list[dict[str, Any]]] = [[] for _ in runs]
        if rates == "auto":
            for records, record in zip(found, self.closed_loop(runs), strict=True):
                records.append(record)
        for step in range(len(AUTO_SHARES) if rates == "auto" else len(rates)):
            rate_of: dict[int, float] = {}
            for number, records in enumerate(found):
                if rates != "auto":
                    rate_of[number] = rates[step]
                elif not _is_swept(records, AUTO_SHARES[step - 1]):
                    rate_of[number] = AUTO_SHARES[step] * records[0]["achieved_rate"]
            repeated: dict[int, list[dict[str, Any]]] = {number: [] for number in rate_of}
            for repeat in range(self.repeats):
                for i in range(len(runs)):
                    number = (step + repeat + i) % len(runs)
                    if number in rate_of:
                        record = self._serve_arrivals(runs[number], rate_of[number])
                        repeated[number].append(record)
            for number, repeats in repeated.items():
                found[number].append(median_run(repeats))
        return [record for records in found for record in records]

    def _serve_arrivals(self, run: Run, rate: float) -> dict[str, Any]:
        calls = self.calls[: max(calls_within(self.seconds, rate), 1)]
        arrivals = poisson_arrivals(len(calls), rate, self.seed)
        rows = sum(len(call.indices) for call in calls)
        what = f"serving {run.label} at {percent(run.fraction)}, {rate:,.4g} calls/s"
        with (
            self.progress(what, self.load.warm_up_rows + rows, "rows") as done,
            self.open_store(run.policy, run.capacity) as store,
        ):
            threads = self.load.threads
            serve(store, self.warm_up(), threads, None, done)
            store.reset_stats()
            server = Server(run, store)
            with _no_garbage_collection():
                # Drawing a progress bar between calls would delay arriving calls.
                times = serve(
                    store, calls, threads, None, ignore, arrivals, at_end=server.note_stats
                )
            done(rows)
            assert server.stats is not None
            return store_record(run, server.stats, [times], self.load, rate)


def _is_swept(records: Sequence[dict[str, Any]], last_share: float) -> bool:
    """Return whether the rates of "auto" end at the last one."""
    return len(records) > 1 and last_share >= 1 and bool(records[-1]["saturated"])


def _lookup_all(store: TieredStore) -> None:
    for table in store.tables.values():
        for first in range(0, len(table), _LOOKUP_ROWS):
            table.lookup(np.arange(first, min(first + _LOOKUP_ROWS, len(table))))


def _warm(baseline: Baseline, calls: Iterator[Call] | Sequence[Call]) -> None:
    """Bring a baseline's cache into the state after calls; in parts, for long warm-ups."""
    iterator = iter(calls)
    while part := [baseline.rows_of_call(call) for call in islice(iterator, 1 << 12)]:
        baseline.warm(np.concatenate(part))


def _until(calls: Sequence[Call], end: float) -> Iterator[Call]:
    """Yield calls until a time of `monotonic`, at least one."""
    for number, call in enumerate(calls):
        if number and monotonic() > end:
            return
        yield call


def calls_within(seconds: float, rate: float) -> int:
    """Return the number of calls that arrive in `seconds` at a rate."""
    calls = seconds * rate * (1 + 1e-12)  # tolerance for rounding of binary fractions
    return math.floor(min(calls, 1 << 62))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    # A garbage collection would count as the latency of a call.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
