"""Open-loop load: Poisson arrival times, waiting for them, backlog and saturation."""

from __future__ import annotations

import os
import threading
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A rate is saturated if less than this share of it is served.
SUSTAINED = 0.95

# Maximum delay of a wake-up by the kernel on a machine that is not overloaded.
_SPIN_NS = 200_000
_MIN_CALLS = 20  # to detect that a backlog grows


def poisson_arrivals(count: int, rate: float, seed: int) -> NDArray[np.int64]:
    """Return the arrival times of a Poisson process.

    The process is conditioned on `count` arrivals in the first ``count / rate`` seconds, the last
    one at their end, so that the offered rate is exact for any number of calls. One seed draws
    one pattern, which the rate scales.

    Parameters
    ----------
    count : int
        Calls, at least 1.
    rate : float
        Calls a second.
    seed : int
        Random seed of the gaps.

    Returns
    -------
    (count,) int64
        Nanoseconds since the start, ascending.
    """
    times = np.cumsum(np.random.default_rng(seed).exponential(size=count))
    return np.asarray(times * (count / rate * 1e9 / times[-1]), dtype=np.int64)


def wait_until(due: int, stopped: threading.Event) -> None:
    """Sleep until shortly before `due`, a time of `perf_counter_ns`, then spin.

    Returns at once when `stopped` is set.
    """
    while (left := due - perf_counter_ns()) > _SPIN_NS:
        if stopped.wait((left - _SPIN_NS) * 1e-9):
            return
    while perf_counter_ns() < due:
        os.sched_yield()  # other threads may need this core, or the GIL


def waiting_calls(
    due: NDArray[np.int64], ended: NDArray[np.int64], threads: int
) -> NDArray[np.int64]:
    """Count the calls that wait for a thread at each arrival, the arriving call included.

    Parameters
    ----------
    due, ended : (n,) int64
        Arrival times of the calls, ascending, and the times of their answers.
    threads : int
        Number of calls served concurrently.

    Returns
    -------
    (n,) int64
        Zero for a call that arrives while a thread is free.
    """
    answered = np.searchsorted(np.sort(ended), due, side="right")
    unanswered = np.arange(1, len(due) + 1) - answered
    return np.asarray(np.maximum(unanswered - threads, 0), dtype=np.int64)


def is_saturated(due: NDArray[np.int64], ended: NDArray[np.int64], threads: int) -> bool:
    """Return whether calls arrive faster than the store can serve them.

    True if less than 0.95 of the offered rate was served, or if the backlog grows: in the second
    half of the calls every call waits for a thread, and more calls wait near its end.
    """
    if due[-1] < SUSTAINED * ended.max():
        return True
    waiting = waiting_calls(due, ended, threads)[len(due) // 2 :]
    earlier, later = np.array_split(waiting, 2)
    return len(due) >= _MIN_CALLS and bool(waiting.all()) and bool(later.mean() > earlier.mean())
