"""Whether a learned policy is worth the CPU time that it takes, and how long it rests where not.

What it saves is time that calls wait for the slow tier. What it takes is CPU time, of which a
second has a price in seconds of those who serve: a quarter on a core of its own, as the cores of a
machine share memory and caches, and one where it has to wait for a core as long as it has one.
Where it costs more than it saves it rests, and works now and then to be judged again: a policy that
never pays takes a sixtieth of the time that it would take, and later less.

It is judged by windows of accesses. At first, and after a rest, it has one to learn what it missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import thread_time
from typing import Any

#: Accesses of the guard's sample that it is judged by: the half-life of the guard's estimates.
WINDOW = 1 << 14

#: Lookups that it rests for each one that it was judged by: at first, and once it rested often.
SHORTEST_REST = 128
LONGEST_REST = 2048

#: Seconds of serving that a second of a policy costs which runs beside it (bench/results/dlrm.md).
LEAST_PRICE = 0.25

_SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True)
class Usage:
    """What was used up to now; differences count.

    Parameters
    ----------
    lookups : int
        Rows that calls asked for.
    sampled : int
        Accesses of the guard's sample.
    waited : float
        Seconds that calls waited for the slow tier, of all threads together.
    cpu : float
        Seconds of CPU time that the policy took.
    queued : float or None
        Seconds that it could have run in, had there been a core; None: the kernel does not tell.
    """

    lookups: int
    sampled: int
    waited: float
    cpu: float
    queued: float | None


def time_of_this_thread() -> tuple[float, float | None]:
    """Return seconds of CPU time, and those that it waited for a core, as `Usage` has them."""
    try:
        queued = int(_SCHEDSTAT.read_text().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        queued = None
    return thread_time(), queued


class Worth:
    """Compares what a policy saves with what it costs, one window of accesses after the other."""

    def __init__(self) -> None:
        self._begin = Usage(0, 0, 0.0, 0.0, None)
        self._learns = True  # it is not judged by this window
        self._rest = 0.0  # lookups for each one of the window: the next rest
        self._rests = 0
        self._saved = self._cpu = self._price = 0.0

    def begin(self, now: Usage) -> None:
        """Begin to work: at first, and after each rest."""
        self._begin, self._learns = now, True

    def is_due(self, sampled: int) -> bool:
        """Whether the window is full once there are so many accesses of the sample."""
        return sampled - self._begin.sampled >= WINDOW

    def judge(self, now: Usage, avoided: float) -> int:
        """End a full window, and begin the next one.

        Parameters
        ----------
        now : Usage
            At its end.
        avoided : float
            By how much more than the best simple policy the learned one spares of what calls wait:
            a share of what they did wait.

        Returns
        -------
        int
            Lookups to rest for; 0: it works on.
        """
        begin, learned = self._begin, self._learns
        self._begin, self._learns = now, False
        lookups = now.lookups - begin.lookups
        began_anew = lookups <= 0 or now.waited < begin.waited
        if learned or began_anew:
            return 0
        self._cpu = now.cpu - begin.cpu
        self._price = _price(begin, now)
        self._saved = (now.waited - begin.waited) * max(0.0, avoided)
        if self._saved >= self._cpu * self._price:
            self._rest = 0.0
            return 0
        self._rests += 1
        self._rest = min(max(SHORTEST_REST, 2 * self._rest), LONGEST_REST)
        return int(lookups * self._rest)

    def figures(self) -> dict[str, Any]:
        """Return what was found of the last window."""
        return {
            "saved_seconds": self._saved,
            "cpu_seconds": self._cpu,
            "cpu_price": self._price,
            "rests": self._rests,
        }


def _price(begin: Usage, end: Usage) -> float:
    """Return what a second of CPU time costs, in seconds of those who serve."""
    if begin.queued is None or end.queued is None:
        return 1.0
    queued, ran = end.queued - begin.queued, end.cpu - begin.cpu
    contended = min(1.0, queued / ran) if ran > 0 else 0.0
    return LEAST_PRICE + (1 - LEAST_PRICE) * contended
