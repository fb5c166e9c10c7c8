"""Tables of a checkpoint written to a table file, streamed; an interrupted import goes on.

`OUT.import`, a file beside the new one, has the rows of each table that are durable, and what
identifies the checkpoint and the new file. It is written after each segment of rows, and removed at
the end.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieralloc._common.files import write_durably
from tieralloc._common.progress import Progress, Report, silent
from tieralloc.store import TieredStore
from tieralloc.tiers import File
from tieralloc.tools.stored_rows import create_like, stored_rows

if TYPE_CHECKING:
    from tieralloc.checkpoint.checkpoint import Checkpoint
    from tieralloc.table import Table

_SEGMENT_BYTES = 256 << 20  # of rows that are written again after a crash, at most
_FAST_BYTES = "64MiB"  # of each store: rows are read once, in order


def import_rows(slow: Checkpoint, out: str, *, progress: Progress = silent) -> list[str]:
    """Write the tables of a checkpoint to a table file, and return a line about each.

    Rows keep their bytes; a joined row is one row of the file. If the same import was interrupted,
    it goes on.

    Parameters
    ----------
    slow : Checkpoint
        All tables that a store on it has.
    out : str
        The file. An existing one is replaced, unless an import into it was interrupted.
    progress : callable
        Opens a progress bar.

    Raises
    ------
    ValueError
        If the interrupted import was of other files or tables.
    OSError
        If a file cannot be read or written.
    """
    state = _State(out, slow._description())
    target = File(out, mode="r+" if state.rows else "w", warm_restart_interval=None)
    with (
        TieredStore(slow=slow, fast_bytes=_FAST_BYTES) as source,
        TieredStore(slow=target, fast_bytes=_FAST_BYTES) as store,
    ):
        done = sum(state.rows.values())
        total = sum(map(len, source.tables.values()))
        with progress("import", total - done, "rows") as report:
            for table in source.tables.values():
                _copy(table, store, state, report)
        lines = [_describe(table) for table in store.tables.values()]
    state.end()
    return lines


def is_interrupted(out: str) -> bool:
    """Whether an import into a file was interrupted."""
    return os.path.exists(out) and _state_path(out).exists()


def _state_path(out: str) -> Path:
    return Path(f"{out}.import")


class _State:
    """The durable rows of each table of an import."""

    def __init__(self, out: str, description: object) -> None:
        self._path = _state_path(out)
        self._checkpoint = hashlib.sha256(repr(description).encode()).hexdigest()
        self.rows: dict[str, int] = {}
        if not is_interrupted(out):
            return
        state: dict[str, Any] = json.loads(self._path.read_text())
        if state["checkpoint"] != self._checkpoint:
            raise ValueError(
                f"{self._path}: of an interrupted import of other files or tables; expected the "
                "same, or this file deleted"
            )
        self.rows = state["rows"]

    def save(self, table: str, rows: int) -> None:
        """Note durable rows, durably."""
        self.rows[table] = rows
        state = {"checkpoint": self._checkpoint, "rows": self.rows}
        write_durably(self._path, json.dumps(state).encode())

    def end(self) -> None:
        """Forget the import: it is complete."""
        self._path.unlink(missing_ok=True)


def _copy(table: Table, store: TieredStore, state: _State, report: Report) -> None:
    """Write the rows of a table that are missing."""
    if table.name not in store.tables:
        create_like(store, table, len(table))
        state.save(table.name, 0)
    new = store.table(table.name)
    step = max(1, _SEGMENT_BYTES // table.row_bytes)
    for first in range(state.rows.get(table.name, 0), len(table), step):
        last = min(first + step, len(table))
        rows = stored_rows(table, first, last, report)
        new.load(rows, start=first)  # durable when it returns
        state.save(table.name, last)


def _describe(table: Table) -> str:
    size = "bytes" if table.dtype == "bytes" else f"x {table.dtype}"
    return f"table {table.name!r}: {len(table):,} rows of {table.embedding_dim} {size}"
