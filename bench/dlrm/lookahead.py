"""Prefetching of the requests in the queue of a server."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Lookahead:
    """Prefetches the rows of each queued request once, by its number, in order.

    It does so when the request has arrived and is one of the next `queued` to be served.
    Thread-safe: the server and the thread that receives requests call it.
    """

    def __init__(self, prefetch: Callable[[int], object], queued: int, numbers: range) -> None:
        self._prefetch = prefetch
        self._queued = queued
        self._end = numbers.stop
        self._serving = self._arrived = self._next = numbers.start
        self._lock = threading.Lock()

    def serving(self, number: int) -> None:
        """Register that a request is served next."""
        self._advance(serving=number)

    def arrived(self, count: int) -> None:
        """Register that all requests up to ``count - 1`` have arrived."""
        self._advance(arrived=count)

    def _advance(self, serving: int = 0, arrived: int = 0) -> None:
        with self._lock:
            self._serving = max(self._serving, serving)
            self._arrived = max(self._arrived, arrived)
            begin = max(self._next, self._serving + 1)
            end = min(self._serving + self._queued + 1, self._arrived, self._end)
            self._next = max(begin, end)
        for number in range(begin, end):
            self._prefetch(number)
