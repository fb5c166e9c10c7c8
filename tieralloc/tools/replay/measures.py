"""The figures of a replay, from the times of its calls and the statistics of its store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc.tools.replay.arrivals import is_saturated, waiting_calls

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.stats import Latency, StoreStats
    from tieralloc.tools.replay.callers import Times

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
#: Where latency curves have points: evenly on an axis whose every unit is ten times rarer.
_CURVE = tuple(1 - 10 ** (-step / 10) for step in range(61))


def contract_figures(
    stats: StoreStats, times: Times, threads: int, rate: float | None
) -> dict[str, Any]:
    """Rows a second and the latency of a call: at a rate, or of a closed loop where it is None."""
    # What a closed loop's callers do between their calls is not the store's time.
    busy = times.latencies.sum() * 1e-9 / threads if rate is None else times.seconds
    return {
        "rows_per_second": stats.lookups / busy,
        "latency_us": _quantiles_us(times.latencies),
    }


def load_figures(times: Times, threads: int, rate: float | None) -> dict[str, Any]:
    """How calls were offered and how many were served; rates are of calls a second."""
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
    """How latencies are distributed: in the store by outcome, and as callers saw them."""
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
    """Latency by fraction of the calls, as far as there are calls enough to tell."""
    fractions = [f for f in _CURVE if (1 - f) * len(latencies) >= 1]
    values = np.quantile(latencies, [*fractions, 1.0], method="inverted_cdf")
    return [list(pair) for pair in zip([*fractions, 1.0], (values / 1000).tolist(), strict=True)]


def _histogram_us(latency: Latency) -> dict[str, float]:
    return {
        name.removesuffix("_ns"): value / 1000 if name.endswith("_ns") else value
        for name, value in latency.to_dict().items()
    }
