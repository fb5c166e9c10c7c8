"""Copies and pickles of stores and their tables.

A copy is the store itself. A pickle is a reference to its file: unpickling opens the file to read,
with a fast tier of its own, once per process. So every process that unpickles modules or tables of
a store takes the DRAM of one more fast tier.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from tieralloc.tiers import File

if TYPE_CHECKING:
    from typing_extensions import Self

    from tieralloc import _bindings
    from tieralloc.operate.versions import Versions
    from tieralloc.restart.warm_restart import WarmRestart
    from tieralloc.store import TieredStore
    from tieralloc.tiers import SlowTier

__all__ = ["Reopenable"]

_lock = threading.Lock()
_reopened: weakref.WeakValueDictionary[str, TieredStore] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class _Reference:
    """A file to open, and the options of its fast tier."""

    file: File
    options: Mapping[str, Any]
    store_id: int


class Reopenable:
    """Base class of `TieredStore`: copies are the store, pickles are references."""

    _core: _bindings.Store
    _versions: Versions
    _read_only: bool
    _options: Mapping[str, Any]

    @property
    def _slow(self) -> SlowTier:
        return self._versions.slow

    @property
    def _path(self) -> str | None:
        return self._versions.path

    @property
    def _restart(self) -> WarmRestart:
        return self._versions.current

    @property
    def store_id(self) -> int:
        """Random id of the store's file, the same in each store of it; 0 in memory."""
        return self._restart.store_id

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._slow, File):
            where = "its rows are in the memory of this process; " if self._slow._in_memory else ""
            raise TypeError(
                f"a store in {self._slow} cannot be pickled: {where}expected a store in a file"
            )
        if _is_spawning() and not (self._read_only or self._core.closed):
            _refuse_writer(self._path)
        path = os.path.abspath(os.fsdecode(self._path or self._slow.path))
        file = dataclasses.replace(self._slow, path=path, mode="r", reserve=True)
        return reopen, (type(self), _Reference(file, dict(self._options), self.store_id))


def reopen(kind: type[TieredStore], reference: _Reference) -> TieredStore:
    """Return this process's store of a reference; open it if there is none.

    Raises
    ------
    OSError
        If the file cannot be opened, or a store has it open to write.
    ValueError
        If the path has another file than before.
    """
    key = repr(reference)
    with _lock:
        store = _reopened.get(key)
        if store is None or store.closed or not store._core.belongs_here:
            store = _reopened[key] = _open(kind, reference)
        return store


def _open(kind: type[TieredStore], reference: _Reference) -> TieredStore:
    path = os.fsdecode(reference.file.path)
    try:
        store = kind(slow=reference.file, **reference.options)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EBUSY):
            _refuse_writer(path)
        raise
    if store.store_id != reference.store_id:
        found = store.store_id
        store.close()
        raise ValueError(
            f"{path}: not the file that was pickled; expected store id {reference.store_id}, got "
            f"{found}"
        )
    return store


def _is_spawning() -> bool:
    """Whether a process starts that will unpickle at once; imports nothing for that."""
    context: Any = sys.modules.get("multiprocessing.context")
    return context is not None and context.get_spawning_popen() is not None


def _refuse_writer(path: str | None) -> NoReturn:
    raise BlockingIOError(
        errno.EWOULDBLOCK,
        "a store has the file open to write, so that no other process can read it; close that "
        "store, or open the file with mode='r' in each process",
        path,
    )
