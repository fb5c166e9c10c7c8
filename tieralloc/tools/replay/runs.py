"""Runs of a replay: each opens the store anew, warms its fast tier and serves the counted calls."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tieralloc._common.progress import Progress
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

#: Rates of "auto", as shares of what a closed loop reaches. From 1 on the first that saturates is
#: the last: the closed loop may have had a slower moment of the machine.
AUTO_SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0)


@dataclass(frozen=True)
class Settings:
    """What all runs of a replay have in common, as for `replay`."""

    embedding_dim: int
    batch_size: int | Literal["row"]
    threads: int
    seconds: float
    verify: bool


@dataclass(frozen=True)
class Bench:
    """Stores with their slow tiers filled, and the calls to serve from them.

    Parameters
    ----------
    open_store : callable
        Opens a store for a policy and a capacity.
    slow_tier : callable
        Says of a store's statistics what its slow tier is.
    trace : str
        Name of the trace.
    source : SourceRows
        What the slow tier was filled with.
    warm_up : callable
        Makes the calls that warm the fast tier.
    warm_up_rows : int
        Their lookups.
    calls : sequence of Call
        Those that are counted, in order.
    settings : Settings
        What to serve them with.
    seed : int
        Of the arrivals.
    progress : callable
        Opens progress bars.
    """

    open_store: Callable[[str, int], TieredStore]
    slow_tier: Callable[[StoreStats], str]
    trace: str
    source: SourceRows
    warm_up: Callable[[], Iterator[Call]]
    warm_up_rows: int
    calls: Sequence[Call]
    settings: Settings
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
        """Make the records of a policy, called `label`, at a capacity: one, or one a rate."""
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
        calls, arrivals = self._offered(rate)
        rows = sum(len(call.indices) for call in calls)
        load = "" if rate is None else f", {rate:,.4g} calls/s"
        source = self.source if self.settings.verify else None
        threads = self.settings.threads
        with (
            self.progress(
                f"replaying {label} at {fraction:g}{load}", self.warm_up_rows + rows, "rows"
            ) as done,
            self.open_store(policy, capacity) as store,
        ):
            warming = serve(store, self.warm_up(), threads, source, done)
            store.reset_stats()
            # A bar drawn between calls would hold up those that arrive meanwhile.
            at_once = done if rate is None else _silent
            with _uncollected():
                times = serve(store, calls, threads, source, at_once, arrivals)
            if rate is not None:
                done(rows)
            stats = store.stats()
        counts = count_record(label, self.trace, fraction, capacity, stats.to_dict())
        if stats.policy_stats is not None:
            counts["policy_stats"] = {
                **stats.policy_stats.to_dict(),
                "accesses_dropped": stats.lookup.accesses_dropped,
            }
        verified = 0 if source is None else len(warming.due) + len(calls)
        return {**counts, **self._figures(stats, times, rate), "verified": verified}

    def _offered(self, rate: float | None) -> tuple[Sequence[Call], NDArray[np.int64] | None]:
        """Return the calls of a run, and when they arrive if not one upon the other."""
        if rate is None:
            return self.calls, None
        calls = self.calls[: max(calls_within(self.settings.seconds, rate), 1)]
        return calls, poisson_arrivals(len(calls), rate, self.seed)

    def _figures(self, stats: StoreStats, times: Times, rate: float | None) -> dict[str, Any]:
        threads = self.settings.threads
        dram = stats.dram.to_dict()
        del dram["huge_page_bytes"]
        return {
            **contract_figures(stats, times, threads, rate),
            "dram_bytes": dram.pop("total_bytes"),
            "slow_tier": self.slow_tier(stats),
            "machine": _machine.describe(),
            **load_figures(times, threads, rate),
            **latency_figures(stats, times),
            "dram": dram,
            "embedding_dim": self.settings.embedding_dim,
            "batch_size": self.settings.batch_size,
            "threads": threads,
            "warm_up_lookups": self.warm_up_rows,
            "calls": stats.calls,
            "emulated": stats.slow_tier.is_emulated,
            **_in_place_figures(stats),
        }


def _in_place_figures(stats: StoreStats) -> dict[str, Any]:
    if stats.promotion is None:
        return {}
    slow = stats.slow_tier.to_dict()
    emulated = {name: slow[name] for name in ("extra_ns", "overlap") if slow["is_emulated"]}
    return {"promotion": stats.promotion.to_dict(), "placement": slow["placement"], **emulated}


def calls_within(seconds: float, rate: float) -> int:
    """Return how many calls arrive in some seconds at a rate."""
    calls = seconds * rate * (1 + 1e-12)  # a hair more, for what binary lacks
    return math.floor(min(calls, 1 << 62))


def _silent(_: int) -> None:
    pass


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
