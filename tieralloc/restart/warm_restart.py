"""Saves the resident rows of a store on close and at intervals, and brings them back after open.

A thread does both, so that a store serves from the first moment. The file is a hint: an error, or a
file of other tables, is logged, and the fast tier starts empty.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from tieralloc._common.events import log_event
from tieralloc.restart.resident_set import ResidentSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tieralloc._bindings import Store

__all__ = ["WarmRestart"]


class WarmRestart:
    """The saved resident rows of an open store.

    `interval` is the time between saves, in seconds; None: no rows are saved or brought back.
    """

    def __init__(
        self, core: Store, path: str | None, interval: float | None, *, saves: bool
    ) -> None:
        self._core = core
        self.store_id = core.store_id
        self._store = path
        self._path = f"{os.path.abspath(path or '')}.warm"
        self._interval = interval
        self._saves = saves and interval is not None
        self._is_done = threading.Event()  # the rows are back; an earlier save would lose some
        self._is_closed = threading.Event()
        self._saving = threading.Lock()
        # A daemon: the store is closed after the interpreter has waited for other threads.
        self._thread = threading.Thread(target=self._run, name="tieralloc-warm-up", daemon=True)

    @property
    def belongs_here(self) -> bool:
        """False in a forked child of the process that made the store."""
        return self._core.belongs_here

    def start(self) -> None:
        """Start the thread, if it has work to do."""
        if self._interval is not None:
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until the rows are back; return whether they are."""
        return self._is_done.wait(seconds)

    def close(self) -> None:
        """Close the store, then save the rows that were resident."""
        if self._is_closed.is_set():
            return
        rows = None
        try:
            rows = self._core.close(lists_resident=self._saves and self._is_done.is_set())
        finally:
            if self._core.closed:
                self._is_closed.set()
        if rows is not None and rows.size:
            self._save(rows)

    def _run(self) -> None:
        try:
            if self._core.tables():  # the file is not new
                self._restore()
            self._is_done.set()
            while self._saves and not self._is_closed.wait(self._interval):
                rows = self._core.resident_rows()
                with self._saving:
                    if not self._is_closed.is_set():
                        self._save(rows)
        except ValueError:
            if not self._core.closed:
                raise

    def _restore(self) -> None:
        try:
            saved = ResidentSet.read(self._path)
            saved.check(self._tables(), self.store_id)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            if not self._core.closed:
                self._log(logging.WARNING, "warm_restart_ignored", reason=str(error))
            return
        began = time.monotonic()
        rows = self._core.warm_up(saved.rows)
        seconds = time.monotonic() - began
        self._log(logging.INFO, "warm_restart_used", rows=rows, seconds=seconds)

    def _tables(self) -> list[tuple[str, int]]:
        return [(name, rows) for name, rows, *_ in self._core.tables()]

    def _save(self, rows: NDArray[np.uint64]) -> None:
        try:
            ResidentSet(self._tables(), rows, self.store_id).write(self._path)
        except OSError as error:
            self._log(logging.WARNING, "warm_restart_not_saved", reason=str(error))

    def _log(self, level: int, event: str, **fields: object) -> None:
        log_event(level, event, store=self._store, file=self._path, **fields)
