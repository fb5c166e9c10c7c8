"""Latencies of requests at a rate: times of calls, and their wait for the caller.

Calls arrive at random times (Poisson) and are served one at a time, first come, first served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.tools.plan.call_times import CallTimes

#: Drawn calls.
_CALLS = 100_000


class Latency(NamedTuple):
    """Percentiles of the latency of a request; None if the rate exceeds what one caller serves."""

    p50_us: float | None
    p99_us: float | None
    utilisation: float  # share of the time that the caller serves; 0 without a rate


def predict(
    reads: NDArray[np.int64], times: CallTimes, rate: float | None = None, seed: int = 0
) -> Latency:
    """Return the latency of calls that wait for `reads` pages, at a rate in calls per second.

    Without a rate, the next call starts when the previous one is answered. Equal seeds draw the
    same arrivals and luck for all points, so that their order is that of the reads.
    """
    random = np.random.default_rng(seed)
    ordered = np.sort(reads)
    drawn = ordered[(random.random(_CALLS) * len(ordered)).astype(np.int64)]
    service = times.draw(drawn, random.random(_CALLS))
    utilisation = 0.0
    latencies = service
    if rate is not None:
        utilisation = rate * float(service.mean()) * 1e-6
        if utilisation >= 1:
            return Latency(None, None, utilisation)
        gaps = random.exponential(1e6 / rate, _CALLS)
        latencies = service + waits(gaps, service)
    p50, p99 = np.quantile(latencies, [0.5, 0.99]).tolist()
    return Latency(p50, p99, utilisation)


def waits(gaps: NDArray[np.float64], service: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the wait of each call: gaps[i] is the time between arrivals i - 1 and i.

    Lindley's recursion, wait[i] = max(0, wait[i-1] + service[i-1] - gaps[i]), as the distance of a
    sum from its minimum.
    """
    steps = np.concatenate(([0.0], service[:-1] - gaps[1:]))
    level = np.cumsum(steps)
    wait: NDArray[np.float64] = level - np.minimum.accumulate(level)
    return wait
