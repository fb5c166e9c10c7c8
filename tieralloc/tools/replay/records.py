"""Records of a replay: counts, rates and latencies of a contender."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tieralloc.tools import machine as _machine
from tieralloc.tools.replay.arrivals import is_saturated, waiting_calls
from tieralloc.tools.simulate import count_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.stats import Latency, StoreStats
    from tieralloc.tools.replay.baselines import Baseline
    from tieralloc.tools.replay.callers import Times
    from tieralloc.tools.replay.runs import Run

#: Percentiles of a latency, by name.
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
_MIDDLE = "p50"
#: A percentile is reported if at least this number of calls exceed it.
MIN_BEYOND = 10
#: Fractions of the points of a latency curve: 10 points per decade of rarity.
_CURVE = tuple(1 - 10 ** (-step / 10) for step in range(61))


def min_calls(fraction: float) -> int:
    """Return the calls that a percentile needs: 1,000 for p99, 10,000 for p99.9."""
    return round(MIN_BEYOND / (1 - fraction))


@dataclass(frozen=True)
class Load:
    """The load that all contenders of a replay serve, and the slow tier they serve it from."""

    trace: str
    embedding_dim: int
    dtype: str
    batch_size: int | Literal["row"]
    threads: int
    warm_up_rows: int
    slow_tier: Callable[[StoreStats | None], str]

    def fields(self) -> dict[str, Any]:
        """Return the parameters of the load."""
        return {
            "embedding_dim": self.embedding_dim,
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "warm_up_lookups": self.warm_up_rows,
        }


def store_record(
    run: Run,
    stats: StoreStats,
    turns: Sequence[Times],
    load: Load,
    rate: float | None = None,
    *,
    verified: int = 0,
) -> dict[str, Any]:
    """Return the record of a store; `rate` is None in a closed loop."""
    counts = count_record(run.label, load.trace, run.fraction, run.capacity, stats.to_dict())
    if stats.policy_stats is not None:
        counts["policy_stats"] = {
            **stats.policy_stats.to_dict(),
            "accesses_dropped": stats.lookup.accesses_dropped,
        }
    dram = stats.dram.to_dict()
    del dram["huge_page_bytes"]
    times = _times(turns, stats.lookups, load.threads, rate)
    return {
        **counts,
        **{name: times.pop(name) for name in ("rows_per_second", "latency_us")},
        "dram_bytes": dram.pop("total_bytes"),
        "slow_tier": load.slow_tier(stats),
        "machine": _machine.describe(),
        **times,
        "latency_us_by_outcome": {
            "hit": _histogram_us(stats.latency.call_hit),
            "on_demand": _histogram_us(stats.latency.call_on_demand),
        },
        "dram": dram,
        **load.fields(),
        "verified": verified,
        "emulated": stats.slow_tier.is_emulated,
        **_in_place_fields(stats),
    }


def baseline_record(
    run: Run, baseline: Baseline, turns: Sequence[Times], load: Load, *, verified: int = 0
) -> dict[str, Any]:
    """Return the record of a baseline, with the counts of its own cache."""
    calls = sum(len(times.due) for times in turns)
    counts = {
        "lookups": baseline.lookups,
        "hits": baseline.lookups - baseline.misses,
        "on_demand_fetches": baseline.misses,
        "evictions": baseline.evictions,
        "calls": calls,
    }
    return {
        **count_record(run.label, load.trace, run.fraction, run.capacity, counts),
        **_times(turns, baseline.lookups, load.threads, None),
        "dram_bytes": baseline.dram_bytes,
        "slow_tier": load.slow_tier(None),
        "machine": _machine.describe(),
        **load.fields(),
        "verified": verified,
        "emulated": False,
        "baseline": True,
    }


def median_run(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of the repeat with the median latency, with quartiles of all repeats."""
    middle = _MIDDLE if all(_MIDDLE in record["latency_us"] for record in repeats) else "max"
    ordered = sorted(repeats, key=lambda record: float(record["latency_us"][middle]))
    chosen = ordered[(len(ordered) - 1) // 2]
    quartiles = {
        name: np.percentile([record["latency_us"][name] for record in repeats], [25, 75]).tolist()
        for name in chosen["latency_us"]
        if all(name in record["latency_us"] for record in repeats)
    }
    return {**chosen, "repeats": len(repeats), "latency_us_quartiles": quartiles}


def _times(
    turns: Sequence[Times], lookups: int, threads: int, rate: float | None
) -> dict[str, Any]:
    """Return rows per second, call latencies, and the offered and the achieved rate."""
    latencies = np.concatenate([times.latencies for times in turns])
    seconds = sum(times.seconds for times in turns)
    figures: dict[str, Any] = {}
    if rate is None:
        # In a closed loop the time of callers between calls is not the store's time.
        speeds = [times.rows / (times.latencies.sum() * 1e-9 / threads) for times in turns]
        low, median, high = np.percentile(speeds, [25, 50, 75]).tolist()
        figures = {"rows_per_second": median, "rows_per_second_quartiles": [low, high]}
    else:
        figures = {"rows_per_second": lookups / seconds}
    figures |= {
        "latency_us": _percentiles_us(latencies),
        "loop": "closed" if rate is None else "open",
        "rate_unit": "calls/s",
        "offered_rate": rate,
        "achieved_rate": len(latencies) / seconds,
        "turns": len(turns),
        "latency_curve_us": _curve_us(latencies),
    }
    if rate is not None:
        (times,) = turns
        waiting = waiting_calls(times.due, times.ended, threads)
        figures["backlog"] = int(waiting[-1])
        figures["backlog_max"] = int(waiting.max())
        figures["saturated"] = is_saturated(times.due, times.ended, threads)
    return figures


def _percentiles_us(latencies: NDArray[np.int64]) -> dict[str, float]:
    known = {name: q for name, q in PERCENTILES.items() if len(latencies) >= min_calls(q)}
    values = np.quantile(latencies, [*known.values(), 1.0], method="inverted_cdf")
    return dict(zip([*known, "max"], (values / 1000).tolist(), strict=True))


def _curve_us(latencies: NDArray[np.int64]) -> list[list[float]]:
    """Return [fraction, latency] pairs, up to the last fraction that enough calls exceed."""
    fractions = [f for f in _CURVE if (1 - f) * len(latencies) * (1 + 1e-9) >= MIN_BEYOND]
    values = np.quantile(latencies, [*fractions, 1.0], method="inverted_cdf")
    return [list(pair) for pair in zip([*fractions, 1.0], (values / 1000).tolist(), strict=True)]


def _histogram_us(latency: Latency) -> dict[str, float]:
    values = latency.to_dict()
    del values["sum_ns"], values["counts_below"]
    known: Mapping[str, Any] = {
        name: value
        for name, value in values.items()
        if (q := PERCENTILES.get(name.removesuffix("_ns"))) is None or latency.count >= min_calls(q)
    }
    return {
        name.removesuffix("_ns"): value / 1000 if name.endswith("_ns") else value
        for name, value in known.items()
    }


def _in_place_fields(stats: StoreStats) -> dict[str, Any]:
    if stats.promotion is None:
        return {}
    slow = stats.slow_tier.to_dict()
    emulated = {name: slow[name] for name in ("extra_ns", "overlap") if slow["is_emulated"]}
    return {"promotion": stats.promotion.to_dict(), "placement": slow["placement"], **emulated}
