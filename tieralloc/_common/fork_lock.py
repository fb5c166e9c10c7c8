"""A lock that is free in a forked child."""

from __future__ import annotations

import os
import threading
import weakref

__all__ = ["ForkLock"]


class ForkLock:
    """A reentrant lock. In a forked child it is free, whichever thread of the parent held it.

    The calls of a store raise ValueError in a forked child. They take locks before that, which
    must not wait for a thread that the child does not have.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _all.add(self)

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; return whether it was taken."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def _free(self) -> None:
        self._lock = threading.RLock()


_all: weakref.WeakSet[ForkLock] = weakref.WeakSet()


def _free_all() -> None:
    for lock in _all:
        lock._free()


os.register_at_fork(after_in_child=_free_all)
