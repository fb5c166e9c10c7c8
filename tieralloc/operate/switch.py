"""A switch of a store to another version of its file, while it serves.

open the file, with the options of the present one; compare the tables
in a thread: bring in the rows that are resident now, with their standing in the policy
hold `changing`: policy, pins and recording as they are now; replace the store's core
close the former file when its last call has ended (versions.py)
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tieralloc._common.events import log_event
from tieralloc.restart.warm_restart import WarmRestart
from tieralloc.tiers import File, Mode

if TYPE_CHECKING:
    from tieralloc import _bindings
    from tieralloc.store import TieredStore

__all__ = ["Switch", "begin_rollback", "begin_switch"]

_COLUMNS = ("name", "rows", "dim", "dtype", "row_bytes")


class Switch:
    """A switch of a store to another file, which `TieredStore.switch` returns.

    Attributes
    ----------
    path : str
        The file.
    resident_rows : int
        Rows in the fast tier when the file began to serve.
    seconds : float
        Time from the call to that moment.
    """

    def __init__(self, store: TieredStore, slow: File, store_id: int | None = None) -> None:
        self.path = os.fsdecode(slow.path)
        self.resident_rows = 0
        self.seconds = 0.0
        self._began = time.monotonic()
        self._slow = slow
        self._versions = store._versions
        self._former = self._versions.path
        self._core: _bindings.Store | None = None  # until it serves
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._is_cancelled = False
        self._versions.begin(self)
        try:
            self._core = store._open_core(slow)
            self._check(store, store_id)
            # A daemon: the end of the interpreter ends the switch, when it closes the store.
            arguments = (store, self._core)
            name = "tieralloc-switch"
            threading.Thread(target=self._run, args=arguments, name=name, daemon=True).start()
        except BaseException:
            self._end()
            raise

    @property
    def done(self) -> bool:
        """Whether the switch has ended: later calls see the file, or it failed."""
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until later calls see the file; return whether they do.

        Parameters
        ----------
        timeout : float, optional
            Seconds; by default without a limit.

        Raises
        ------
        OSError
            If a row cannot be read. The former file serves.
        RuntimeError
            If the store was closed meanwhile.
        ValueError
            If a table was created meanwhile. The former file serves.
        """
        if not self._ended.wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return True

    def cancel(self) -> None:
        """End the switch; return when it has ended. Without effect if the file serves."""
        with self._versions.changing:
            self._is_cancelled = True
            core = self._core
        if core is not None:
            core.close()
        self._ended.wait()

    def _check(self, store: TieredStore, store_id: int | None) -> None:
        """Compare the file with the store, before anything changes."""
        core = self._core
        assert core is not None
        if store_id not in (None, core.store_id):
            raise ValueError(
                f"{self.path}: replaced since the store served it; expected the file with id "
                f"{store_id}, got {core.store_id}"
            )
        check_tables(self.path, store._core.tables(), core.tables())
        check_positions(store)

    def _run(self, store: TieredStore, core: _bindings.Store) -> None:
        try:
            self._serve(store, core, self._prepare(store, core))
        except Exception as error:
            self._error = error
            if self._is_cancelled:
                self._error = RuntimeError(f"switch to {self.path}: ended before the file served")
            else:
                self._log(logging.ERROR, "switch_failed", reason=str(error))
        finally:
            self._end()

    def _prepare(self, store: TieredStore, core: _bindings.Store) -> object:
        """Fill the fast tier of the new version; return the state of the policy."""
        wanted = [core.residency(position) for position in range(len(core.tables()))]
        for name, size in store._reserved.items():
            core.reserve(store._tables[name].position, size)
        policy = store._policy.start_in(core, store._table_sizes())
        self.resident_rows = core.copy_residents(self._versions.current.core)
        for position, (name, *_) in enumerate(core.tables()):
            if core.residency(position) != wanted[position]:
                text = f"table {name!r} cannot be read; expected it in DRAM as a whole"
                raise OSError(errno.EIO, text, self.path)
        return policy

    def _serve(self, store: TieredStore, core: _bindings.Store, policy: object) -> None:
        """Replace the version that serves."""
        versions = self._versions
        restart = WarmRestart.of(core, self._slow, restores=False)
        with versions.changing:
            if self._is_cancelled:
                raise RuntimeError("cancelled")
            check_tables(self.path, versions.current.core.tables(), core.tables())
            check_positions(store)
            if store._policy.state != policy:
                store._policy.start_in(core, store._table_sizes())
            core.copy_pins(versions.current.core)
            if store._recorder is not None:
                store._recorder.join(restart.core)
            versions.replace(store._core, restart, self._slow, store._recorder)
            store._core = core
            self._core = None
        self.seconds = time.monotonic() - self._began
        restart.start()
        figures = {"rows": self.resident_rows, "seconds": self.seconds}
        self._log(logging.INFO, "version_switched", **figures)

    def _log(self, level: int, event: str, **fields: object) -> None:
        log_event(level, event, store=self._former, file=self.path, **fields)

    def _end(self) -> None:
        core, self._core = self._core, None
        if core is not None:
            try:
                core.close()
            except OSError as error:
                self._log(logging.WARNING, "switch_file_not_closed", reason=str(error))
        self._versions.end()
        self._ended.set()


def check_tables(
    path: str,
    expected: list[tuple[str, int, int, str, int]],
    actual: list[tuple[str, int, int, str, int]],
) -> None:
    """Raise ValueError that names the first difference between the tables of two files."""
    for position, (own, other) in enumerate(zip(expected, actual, strict=False)):
        for column, mine, theirs in zip(_COLUMNS, own, other, strict=True):
            if mine == theirs:
                continue
            what = f"table {position}" if column == "name" else f"{column} of table {own[0]!r}"
            raise ValueError(f"{path}: {what}: expected {mine!r}, got {theirs!r}")
    if len(expected) != len(actual):
        longer = max(expected, actual, key=len)
        raise ValueError(
            f"{path}: expected {len(expected)} tables, got {len(actual)}; the first of only one "
            f"file is {longer[min(len(expected), len(actual))][0]!r}"
        )


def check_positions(store: TieredStore) -> None:
    """Raise ValueError if the tables of another file would have other positions."""
    if [table.position for table in store._tables.values()] != list(range(len(store._tables))):
        raise ValueError(
            "switch: tables were dropped since the store was opened; expected none, open it again"
        )


def begin_switch(store: TieredStore, path: str | os.PathLike[str]) -> Switch:
    """Begin a switch to a file, which has the options of the present one."""
    slow = store._versions.slow
    if not isinstance(slow, File):
        raise ValueError(f"switch: expected a store of a file, got a slow tier of {slow}")
    mode: Mode = "r" if slow.mode == "r" else "r+"
    if mode == "r+" and os.path.realpath(path) == os.path.realpath(slow.path):
        raise ValueError(f"path: {os.fsdecode(path)} is the file that serves; expected another one")
    store._versions.release_former()  # at most two fast tiers, and the file may be one of those
    return Switch(store, replace(slow, path=path, mode=mode))


def begin_rollback(store: TieredStore) -> Switch:
    """Begin a switch to the file before the last switch."""
    versions = store._versions
    if versions.previous is None:
        raise RuntimeError("rollback: the store has not been switched; expected a switch before")
    slow, store_id = versions.previous
    assert isinstance(slow, File)
    versions.release_former()
    return Switch(store, replace(slow, mode="r" if slow.mode == "r" else "r+"), store_id)
