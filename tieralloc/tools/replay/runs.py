"""Runs of a replay: each opens a store, warms its fast tier and serves the counted calls."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tieralloc._common.progress import Progress, ignore
from tieralloc.store import TieredStore
from tieralloc.tools import machine as _machine
from tieralloc.tools.replay.arrivals import poisson_arrivals
from tieralloc.tools.replay.callers import Call, Times, serve
from tieralloc.tools.replay.measures import contract_figures, latency_figures, load_figures
from tieralloc.tools.replay.source import SourceRows
from tieralloc.tools.simulate import count_record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tieralloc.stats import StoreStats

#: Rates of "auto", as shares of the closed loop's rate. The sweep ends at the first saturated rate
#: at or above 1: shares above 1 allow for a closed loop measured while the machine was slow.
AUTO_SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0)


@dataclass(frozen=True)
class Bench:
    """Loaded slow tiers, and the calls to serve from them.

    Parameters
    ----------
    open_store : callable
        Opens a store for a policy and a capacity.
    slow_tier : callable
        Describes the slow tier, given a store's statistics.
    trace : str
        Name of the trace.
    source : SourceRows
        Values of the slow tier's rows.
    warm_up : callable
        Returns an iterator of the calls that warm the fast tier.
    warm_up_rows : int
        Number of lookups of the warm-up.
    calls : sequence of Call
        The counted calls, in order.
    batch_size, threads, seconds, verify, seed, progress
        As for `replay`.
    """

    open_store: Callable[[str, int], TieredStore]
    slow_tier: Callable[[StoreStats], str]
    trace: str
    source: SourceRows
    warm_up: Callable[[], Iterator[Call]]
    warm_up_rows: int
    calls: Sequence[Call]
    batch_size: int | Literal["row"]
    threads: int
    seconds: float
    verify: bool
    seed: int
    progress: Progress

    def sweep(
        self,
        policy: str,
        label: str,
        fraction: float,
        capacity: int,
        rates: Sequence[float] | Literal["auto"] | None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the records of a policy, named `label`, at a capacity: one, or one per rate."""
        measure = partial(self._measure, policy, label, fraction, capacity)
        if rates is not None and rates != "auto":
            yield from map(measure, rates)
            return
        closed = measure(None)
        yield closed
        for share in AUTO_SHARES if rates == "auto" else ():
            record = measure(share * closed["achieved_rate"])
            yield record
            if share >= 1 and record["saturated"]:
                return

    def _measure(
        self, policy: str, label: str, fraction: float, capacity: int, rate: float | None
    ) -> dict[str, Any]:
        calls, arrivals = self._load(rate)
        rows = sum(len(call.indices) for call in calls)
        load = "" if rate is None else f", {rate:,.4g} calls/s"
        source = self.source if self.verify else None
        with (
            self.progress(
                f"replaying {label} at {fraction:g}{load}", self.warm_up_rows + rows, "rows"
            ) as done,
            self.open_store(policy, capacity) as store,
        ):
            warm_up = serve(store, self.warm_up(), self.threads, source, done)
            store.reset_stats()
            # Drawing a progress bar between calls would delay arriving calls.
            report = done if rate is None else ignore
            with _no_garbage_collection():
                times = serve(store, calls, self.threads, source, report, arrivals)
            if rate is not None:
                done(rows)
            stats = store.stats()
        counts = count_record(label, self.trace, fraction, capacity, stats.to_dict())
        if stats.policy_stats is not None:
            counts["policy_stats"] = {
                **stats.policy_stats.to_dict(),
                "accesses_dropped": stats.lookup.accesses_dropped,
            }
        verified = 0 if source is None else len(warm_up.due) + len(calls)
        return {**counts, **self._metrics(stats, times, rate), "verified": verified}

    def _load(self, rate: float | None) -> tuple[Sequence[Call], NDArray[np.int64] | None]:
        """Return the calls of a run, and their arrival times; None in a closed loop."""
        if rate is None:
            return self.calls, None
        calls = self.calls[: max(calls_within(self.seconds, rate), 1)]
        return calls, poisson_arrivals(len(calls), rate, self.seed)

    def _metrics(self, stats: StoreStats, times: Times, rate: float | None) -> dict[str, Any]:
        dram = stats.dram.to_dict()
        del dram["huge_page_bytes"]
        return {
            **contract_figures(stats, times, self.threads, rate),
            "dram_bytes": dram.pop("total_bytes"),
            "slow_tier": self.slow_tier(stats),
            "machine": _machine.describe(),
            **load_figures(times, self.threads, rate),
            **latency_figures(stats, times),
            "dram": dram,
            "embedding_dim": self.source.embedding_dim,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "warm_up_lookups": self.warm_up_rows,
            "calls": stats.calls,
            "emulated": stats.slow_tier.is_emulated,
            **_in_place_metrics(stats),
        }


def _in_place_metrics(stats: StoreStats) -> dict[str, Any]:
    if stats.promotion is None:
        return {}
    slow = stats.slow_tier.to_dict()
    emulated = {name: slow[name] for name in ("extra_ns", "overlap") if slow["is_emulated"]}
    return {"promotion": stats.promotion.to_dict(), "placement": slow["placement"], **emulated}


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
