"""Open-loop load: when calls arrive, how to wait for it, and whether they are kept up with."""

from __future__ import annotations

import os
import threading
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A rate of which less than this share is served is beyond saturation.
SUSTAINED = 0.95

# How late the kernel may wake a sleeper on a machine that is not overloaded.
_SPIN_NS = 200_000
_FEWEST = 20  # calls from which the growth of a backlog can be told


def poisson_arrivals(count: int, rate: float, seed: int) -> NDArray[np.int64]:
    """Return when calls arrive that know nothing of each other.

    A Poisson process given that it has `count` arrivals in the first ``count / rate`` seconds,
    the last one at their end: the rate offered is the one asked for, however few the calls are.
    A seed draws one pattern, which is the faster the higher the rate.

    Parameters
    ----------
    count : int
        Calls, at least 1.
    rate : float
        Calls a second.
    seed : int
        Of the gaps.

    Returns
    -------
    (count,) int64
        Nanoseconds from the beginning, ascending.
    """
    times = np.cumsum(np.random.default_rng(seed).exponential(size=count))
    return np.asarray(times * (count / rate * 1e9 / times[-1]), dtype=np.int64)


def wait_until(due: int, stopped: threading.Event) -> None:
    """Sleep until shortly before a time of `perf_counter_ns`, and spin for the rest.

    Returns at once when `stopped` is set.
    """
    while (left := due - perf_counter_ns()) > _SPIN_NS:
        if stopped.wait((left - _SPIN_NS) * 1e-9):
            return
    while perf_counter_ns() < due:
        os.sched_yield()  # to whoever needs this core, or Python's lock


def waiting_calls(
    due: NDArray[np.int64], ended: NDArray[np.int64], threads: int
) -> NDArray[np.int64]:
    """Count the calls that wait for a thread when each call has arrived, itself among them.

    Parameters
    ----------
    due, ended : (n,) int64
        When the calls arrived, ascending, and when they were answered.
    threads : int
        Calls that are served at a time.

    Returns
    -------
    (n,) int64
        Zero where the call found a thread free.
    """
    answered = np.searchsorted(np.sort(ended), due, side="right")
    unanswered = np.arange(1, len(due) + 1) - answered
    return np.asarray(np.maximum(unanswered - threads, 0), dtype=np.int64)


def is_saturated(due: NDArray[np.int64], ended: NDArray[np.int64], threads: int) -> bool:
    """Tell whether calls came faster than they can be served for long.

    So it is where less than 0.95 of the rate that arrived was served, or where the backlog grows:
    in the second half of the calls none found a thread free, and more waited towards its end.
    """
    if due[-1] < SUSTAINED * ended.max():
        return True
    waiting = waiting_calls(due, ended, threads)[len(due) // 2 :]
    earlier, later = np.array_split(waiting, 2)
    return len(due) >= _FEWEST and bool(waiting.all()) and bool(later.mean() > earlier.mean())
