"""The calls of a store that operate it while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tieralloc.operate.deltas import apply
from tieralloc.restart.resident_set import rows_of
from tieralloc.table import check_writable
from tieralloc.tiers import File, fast_tier

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from tieralloc import _bindings
    from tieralloc.delta.delta import AppliedDelta, Delta
    from tieralloc.policy.planned import ActivePolicy
    from tieralloc.store import TieredStore
    from tieralloc.table import Table
    from tieralloc.tiers import SlowTier


class Operations:
    """Base class of `TieredStore`."""

    if TYPE_CHECKING:

        @property
        def closed(self) -> bool:
            """As of `TieredStore`."""

        def table(self, name: str) -> Table:
            """As of `TieredStore`."""

    _core: _bindings.Store
    _path: str | None
    _policy: ActivePolicy
    _read_only: bool
    _slow: SlowTier
    _tables: dict[str, Table]

    def warm_up(self, rows: Mapping[str, ArrayLike] | str | os.PathLike[str]) -> int:
        """Bring rows into free slots of the fast tier, in file order; lookups go on meanwhile.

        Evicts no row. Of more rows than slots, the last ones count.

        Parameters
        ----------
        rows : path, or mapping of table names to (n,) integers
            A file that `tieralloc warm-up` made, or rows of tables; the next victim first.

        Returns
        -------
        int
            Rows read. A row that cannot be read is skipped.

        Raises
        ------
        KeyError, IndexError, ValueError, OSError
            If a table or a row does not exist, or the file is damaged, of other tables, or cannot
            be read. Nothing is done.
        """
        return self._core.warm_up(rows_of(rows, self._table_sizes()))

    @property
    def version(self) -> int:
        """The version of the last delta that the store has; 0: there was none."""
        return self._core.version

    def apply(self, delta: Delta | str | os.PathLike[str]) -> AppliedDelta:
        """Apply a delta: set and delete rows of several tables as one, durably.

        A lookup call sees none of its rows or all of them, over all tables. When `apply` returns,
        the rows and the version survive power loss; a crash before leaves the old rows with the
        old version, or the new ones with the new. Lookups of other threads go on, and are held off
        for some microseconds at the end; other writers wait. The rows are in the redo log, in
        memory, until they are written to their pages.

        Parameters
        ----------
        delta : Delta, or path
            Arrays, or a file that ``tieralloc delta`` or `Delta.write` wrote.

        Returns
        -------
        AppliedDelta

        Raises
        ------
        DeltaError
            A ValueError. `DuplicateDeltaError`, `MissingDeltaError` or `OutOfOrderDeltaError` if
            the delta does not follow the store's `version`; `TruncatedDeltaError` or
            `DamagedDeltaError` if it is not complete. Nothing is done.
        KeyError, IndexError, TypeError, ValueError
            If a table or a row does not exist, values have another shape or type, or the slow tier
            is in memory, which keeps no version. Nothing is done.
        io.UnsupportedOperation
            If the file was opened with mode "r".
        OSError
            If the redo log cannot be written or synced. The store is as it was, but power loss
            right after a failed sync may leave it with the delta, as a whole.

        Examples
        --------
        >>> store.apply(ta.Delta(version=1, follows=0, parts=[("item", [3, 14], values)]))
        >>> store.apply("2-from-1.delta")
        >>> store.version
        2
        """
        return apply(cast("TieredStore", self), delta)

    def resize(self, *, fast_bytes: int | str | None = None, fast_rows: int | None = None) -> None:
        """Change the budget of the fast tier while the store serves.

        The fast tier is then that of a store opened with this budget, small tables in DRAM as a
        whole included. Resident rows move to it without a read of the slow tier; of more than fit,
        the next victims stay behind. Pins stay. A learned policy continues; the history of rows
        starts again.

        Parameters
        ----------
        fast_bytes, fast_rows : int or str
            One of them, as for `TieredStore`.

        Raises
        ------
        ValueError
            If the budget is too small for the tables, their reserved bytes or the pinned rows, or
            if the memory of a learned policy is too small for it. Nothing changes.
        MemoryError
            If the machine, or `fast_node`, has too little DRAM available. Nothing changes.

        Examples
        --------
        >>> store.resize(fast_bytes="8MiB")
        """
        in_memory = not isinstance(self._slow, File)
        fast = fast_tier(fast_bytes, fast_rows, None, in_memory=in_memory)
        self._core.resize(fast["fast_bytes"], fast["fast_rows"])

    def drop_table(self, name: str) -> None:
        """Remove a table while the store serves; its name and its space are free then.

        The file gives the space back where its file system can, and later tables take it. Resident
        rows and pins of other tables stay, except pinned rows that do not fit any more: they are
        resident only as long as others are. A learned policy stops. Calls of the table, also those
        that wait for the end of this one, raise ValueError; positions of other tables stay.

        Raises
        ------
        KeyError
            If there is no table of this name.
        ValueError
            If the store is being recorded.
        io.UnsupportedOperation
            If the file was opened with mode "r".
        OSError
            If the file cannot be written. The table stays.

        Examples
        --------
        >>> store.drop_table("item")
        """
        check_writable(self, "drop_table")
        self._core.drop_table(self.table(name).position)
        del self._tables[name]
        self._policy.fit(self._core, self._table_sizes())

    def _table_sizes(self) -> list[tuple[str, int]]:
        return [(table.name, table.num_embeddings) for table in self._tables.values()]
