"""Saves the resident rows of a store on close and at intervals, and brings them back after open.

So it does with what a learned policy has learnt, in a file of its own. A thread does both, so that
a store serves from the first moment. The files are hints: an error, or a file of other tables, is
logged, and the fast tier or the policy starts empty.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from tieralloc._common.events import log_event
from tieralloc.restart.policy_memory import restore_policy, save_policy
from tieralloc.restart.resident_set import ResidentSet
from tieralloc.tiers import File

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tieralloc._bindings import Store
    from tieralloc._bindings.store_base import StoreBase
    from tieralloc.tiers import SlowTier

__all__ = ["WarmRestart"]


class WarmRestart:
    """The saved resident rows of an open store.

    `interval` is the time between saves, in seconds; None: no rows are saved or brought back.

    Attributes
    ----------
    core : StoreBase
        The C++ store, in an object of its own: that of the store is only referenced by the store
        and its calls.
    path : str
        The file of the rows.
    policy_path : str
        The file of what a learned policy has learnt.
    table_file : str or None
        The table file.
    store_id : int
        The id of the table file.
    """

    def __init__(
        self,
        core: StoreBase,
        path: str | None,
        interval: float | None,
        *,
        saves: bool,
        restores: bool = True,
    ) -> None:
        self.core = core
        self.store_id = core.store_id
        self.table_file = path
        self.path = f"{os.path.abspath(path or '')}.warm"
        self.policy_path = f"{os.path.abspath(path or '')}.policy"
        self._interval = interval
        self._saves = saves and interval is not None
        self._restores = restores
        self._is_done = threading.Event()  # the rows are back; an earlier save would lose some
        self._is_closed = threading.Event()
        self._saving = threading.Lock()
        # A daemon: the store is closed after the interpreter has waited for other threads.
        self._thread = threading.Thread(target=self._run, name="tieralloc-warm-up", daemon=True)

    @classmethod
    def of(cls, core: Store, slow: SlowTier, *, restores: bool = True) -> WarmRestart:
        """Return that of a store; `restores`: bring the saved rows back."""
        if not isinstance(slow, File):
            return cls(core.share(), None, None, saves=False)
        interval, saves = slow.warm_restart_interval, slow.mode != "r"
        path = os.fsdecode(slow.path)
        return cls(core.share(), path, interval, saves=saves, restores=restores)

    @property
    def is_closed(self) -> bool:
        """Whether `close` has closed the store."""
        return self._is_closed.is_set()

    @property
    def belongs_here(self) -> bool:
        """False in a forked child of the process that made the store."""
        return self.core.belongs_here

    def start(self) -> None:
        """Start the thread, if it has work to do."""
        if self._interval is not None:
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until the rows are back; return whether they are."""
        return self._is_done.wait(seconds)

    def flush(self) -> None:
        """Flush the store, if it is open."""
        try:
            self.core.flush()
        except ValueError:
            if not self.core.closed:
                raise

    def close(self) -> None:
        """Close the store, then save the rows that were resident."""
        if self._is_closed.is_set():
            return
        rows = None
        saves = self._saves and self._is_done.is_set()
        try:
            if saves:
                self._save_policy()  # before the tiers end
            rows = self.core.close(lists_resident=saves)
        finally:
            if self.core.closed:
                self._is_closed.set()
        if rows is not None and rows.size:
            with self._saving:
                self._save(rows)

    def _run(self) -> None:
        try:
            if self._restores and self.core.tables():  # the file is not new
                self._restore()
            self._is_done.set()
            while self._saves and not self._is_closed.wait(self._interval):
                self._save_policy()
                rows = self.core.resident_rows()
                with self._saving:
                    if not self._is_closed.is_set():
                        self._save(rows)
        except ValueError:
            if not self.core.closed:
                raise

    def _restore(self) -> None:
        self._restore_policy()
        try:
            saved = ResidentSet.read(self.path)
            saved.check(self._tables(), self.store_id)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self._log_ignored(self.path, str(error))
            return
        began = time.monotonic()
        rows = self.core.warm_up(saved.rows)
        seconds = time.monotonic() - began
        self._log(logging.INFO, self.path, "warm_restart_used", rows=rows, seconds=seconds)

    def _restore_policy(self) -> None:
        try:
            if not restore_policy(self.core, self.policy_path):
                reason = "no tier has a policy of this model, these tables and this size"
                self._log_ignored(self.policy_path, reason)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            self._log_ignored(self.policy_path, str(error))

    def _tables(self) -> list[tuple[str, int]]:
        return [(name, rows) for name, rows, *_ in self.core.tables()]

    def _save(self, rows: NDArray[np.uint64]) -> None:
        try:
            ResidentSet(self._tables(), rows, self.store_id).write(self.path)
        except OSError as error:
            self._log(logging.WARNING, self.path, "warm_restart_not_saved", reason=str(error))

    def _save_policy(self) -> None:
        try:
            save_policy(self.core, self.policy_path)
        except OSError as error:
            path = self.policy_path
            self._log(logging.WARNING, path, "warm_restart_not_saved", reason=str(error))
        except ValueError:
            if not self.core.closed:
                raise

    def _log_ignored(self, path: str, reason: str) -> None:
        if not self.core.closed:
            self._log(logging.WARNING, path, "warm_restart_ignored", reason=reason)

    def _log(self, level: int, path: str, event: str, **fields: object) -> None:
        log_event(level, event, store=self.table_file, file=path, **fields)
