"""Queued requests whose rows are fetched ahead: a server knows what is in its queue."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Lookahead:
    """Has the rows of each queued request fetched once, if few enough are before it.

    May be called by the server and by who receives requests, at once.

    Parameters
    ----------
    prefetch : callable
        Has the rows of a request fetched, by its number.
    ahead : int
        How many requests behind the one that is being served are looked at.
    first, end : int
        The requests there are: `first` to ``end - 1``.
    """

    def __init__(self, prefetch: Callable[[int], object], ahead: int, first: int, end: int) -> None:
        self._prefetch = prefetch
        self._ahead = ahead
        self._end = end
        self._served = first
        self._arrived = first
        self._next = first
        self._lock = threading.Lock()

    def serving(self, number: int) -> None:
        """Take note that a request is about to be served."""
        with self._lock:
            self._served = max(self._served, number)
            due = self._due()
        self._fetch(due)

    def arrived(self, count: int) -> None:
        """Take note that the requests up to ``count - 1`` have arrived."""
        with self._lock:
            self._arrived = max(self._arrived, count)
            due = self._due()
        self._fetch(due)

    def _due(self) -> range:
        begin = max(self._next, self._served + 1)
        end = min(self._served + self._ahead + 1, self._arrived, self._end)
        self._next = max(begin, end)
        return range(begin, end)

    def _fetch(self, due: range) -> None:
        for number in due:
            self._prefetch(number)
