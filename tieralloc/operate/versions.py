"""The open files of a store: the one that serves, and former ones until their calls have ended.

Each call of a store takes its core once, from `TieredStore._core`, and keeps it to its end. A
former core has no other reference: its end is the end of its last call. Then a thread closes its
file, through an object of its own of the same C++ store.

Concurrency: thread-safe. `changing` is held for the moment of a switch, and by each call that
changes what the next version must have too: policy, pins, recording, tables, budget.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tieralloc._common.events import log_event
from tieralloc._common.fork_lock import ForkLock
from tieralloc.tiers import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tieralloc import _bindings
    from tieralloc.operate.switch import Switch
    from tieralloc.restart.warm_restart import WarmRestart
    from tieralloc.tiers import SlowTier
    from tieralloc.trace.recorder import Recorder

__all__ = ["Versions"]


class Versions:
    """The open files of a store.

    Attributes
    ----------
    current : WarmRestart
        The file that serves.
    slow : SlowTier
        Its configuration.
    previous : (SlowTier, int) or None
        The configuration of the file before the last switch, and its id.
    switches : int
        Switches so far.
    changing : ForkLock
    """

    def __init__(self, current: WarmRestart, slow: SlowTier) -> None:
        self.current = current
        self.slow = slow
        self.previous: tuple[SlowTier, int] | None = None
        self.switches = 0
        self.changing = ForkLock()
        self._lock = ForkLock()
        self._running: Switch | None = None
        self._is_closing = False
        self._former: list[_Former] = []

    @property
    def path(self) -> str | None:
        """The path of the file that serves; None: the slow tier is memory."""
        return os.fsdecode(self.slow.path) if isinstance(self.slow, File) else None

    @property
    def belongs_here(self) -> bool:
        """False in a forked child of the process that opened the files."""
        return self.current.belongs_here

    def begin(self, switch: Switch) -> None:
        """Note the only switch that runs; RuntimeError names another one."""
        with self.without_switch("switch"), self._lock:
            if self._is_closing:
                raise ValueError("the store is closed")
            self._running = switch

    @contextmanager
    def without_switch(self, call: str) -> Iterator[None]:
        """Hold `changing` while no switch runs; RuntimeError names one that does."""
        with self.changing:
            running = self._running
            if running is not None:
                raise RuntimeError(
                    f"{call}: a switch to {running.path} is running; expected its end"
                )
            yield

    def end(self) -> None:
        """Note that no switch runs."""
        with self._lock:
            self._running = None

    def replace(
        self,
        core: _bindings.Store,
        restart: WarmRestart,
        slow: SlowTier,
        recorder: Recorder | None,
    ) -> None:
        """Make another file the current one; `core` is that of the former. Hold `changing`."""
        former = _Former(core, self.current, recorder)
        with self._lock:
            self._former = [each for each in self._former if not each.is_closed] + [former]
        self.previous = (self.slow, self.current.store_id)
        self.current, self.slow = restart, slow
        self.switches += 1

    def release_former(self) -> None:
        """Close the files of former versions; return when all are closed.

        Raises
        ------
        OSError
            If updates of a version cannot be written to its file. It stays open.
        """
        for former in self._open_former():
            former.close()

    def flush(self) -> None:
        """Make the updates of former versions durable."""
        for former in self._open_former():
            former.restart.flush()

    def close(self) -> None:
        """End a switch that runs, and close all files; OSError if one cannot be written."""
        with self._lock:
            self._is_closing = True
            running = self._running
        try:
            if running is not None:
                running.cancel()
            self.release_former()
            self.current.close()
        finally:
            self._is_closing = self.current.is_closed

    def _open_former(self) -> list[_Former]:
        with self._lock:
            return [former for former in self._former if not former.is_closed]


class _Former:
    """A former version, whose file is closed once its calls have ended."""

    def __init__(
        self, core: _bindings.Store, restart: WarmRestart, recorder: Recorder | None
    ) -> None:
        self.restart = restart
        self._recorder = recorder
        self._is_unused = threading.Event()
        self._lock = ForkLock()
        self._core = weakref.ref(core, lambda _: self._is_unused.set())
        threading.Thread(target=self._run, name="tieralloc-former", daemon=True).start()

    @property
    def is_closed(self) -> bool:
        return self.restart.is_closed

    def close(self) -> None:
        self._is_unused.wait()
        with self._lock:
            if self._recorder is not None:
                self._recorder.leave(self.restart.core)
                self._recorder = None
            self.restart.close()

    def _run(self) -> None:
        try:
            self.close()
        except Exception as error:
            log_event(
                logging.ERROR, "former_not_closed", store=self.restart.table_file, reason=str(error)
            )
