"""Metrics of a replay, computed from the times of its calls and the statistics of its store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc.tools.replay.arrivals import is_saturated, waiting_calls

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.stats import Latency, StoreStats
    from tieralloc.tools.replay.callers import Times

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
#: Fractions of the points of a latency curve: 10 points per decade of rarity.
_CURVE = tuple(1 - 10 ** (-step / 10) for step in range(61))


def contract_figures(
    stats: StoreStats, times: Times, threads: int, rate: float | None
) -> dict[str, Any]:
    """Return rows per second and call latency; `rate` is None in a closed loop."""
    # In a closed loop the time of callers between calls is not the store's time.
    busy = times.latencies.sum() * 1e-9 / threads if rate is None else times.seconds
    return {
        "rows_per_second": stats.lookups / busy,
        "latency_us": _quantiles_us(times.latencies),
    }


def load_figures(times: Times, threads: int, rate: float | None) -> dict[str, Any]:
    """Return the offered and the achieved rate in calls per second, and the backlog."""
    figures = {
        "loop": "closed" if rate is None else "open",
        "rate_unit": "calls/s",
        "offered_rate": rate,
        "achieved_rate": len(times.due) / times.seconds,
    }
    if rate is not None:
        waiting = waiting_calls(times.due, times.ended, threads)
        figures["backlog"] = int(waiting[-1])
        figures["backlog_max"] = int(waiting.max())
        figures["saturated"] = is_saturated(times.due, times.ended, threads)
    return figures


def latency_figures(stats: StoreStats, times: Times) -> dict[str, Any]:
    """Return the latency distributions: in the store by outcome, and of the callers."""
    return {
        "latency_us_by_outcome": {
            "hit": _histogram_us(stats.latency.call_hit),
            "on_demand": _histogram_us(stats.latency.call_on_demand),
        },
        "latency_curve_us": _curve_us(times.latencies),
    }


def _quantiles_us(latencies: NDArray[np.int64]) -> dict[str, float]:
    values = np.quantile(latencies, [*_QUANTILES.values(), 1.0], method="inverted_cdf")
    return dict(zip([*_QUANTILES, "max"], (values / 1000).tolist(), strict=True))


def _curve_us(latencies: NDArray[np.int64]) -> list[list[float]]:
    """Return [fraction, latency] pairs, up to the last fraction that at least one call exceeds."""
    fractions = [f for f in _CURVE if (1 - f) * len(latencies) >= 1]
    values = np.quantile(latencies, [*fractions, 1.0], method="inverted_cdf")
    return [list(pair) for pair in zip([*fractions, 1.0], (values / 1000).tolist(), strict=True)]


def _histogram_us(latency: Latency) -> dict[str, float]:
    return {
        name.removesuffix("_ns"): value / 1000 if name.endswith("_ns") else value
        for name, value in latency.to_dict().items()
    }
