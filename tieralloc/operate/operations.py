"""The calls of a store that operate it while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tieralloc import _bindings
from tieralloc.operate.deltas import apply
from tieralloc.operate.switch import Switch, begin_rollback, begin_switch
from tieralloc.restart.resident_set import rows_of
from tieralloc.table import check_writable
from tieralloc.tiers import fast_tier

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from tieralloc.delta.delta import AppliedDelta, Delta
    from tieralloc.operate.versions import Versions
    from tieralloc.policy.planned import ActivePolicy
    from tieralloc.store import TieredStore
    from tieralloc.table import Table
    from tieralloc.tiers import FastOptions, SlowTier


class Operations:
    """Base class of `TieredStore`."""

    if TYPE_CHECKING:

        @property
        def closed(self) -> bool:
            """As of `TieredStore`."""

        def table(self, name: str) -> Table:
            """As of `TieredStore`."""

    _core: _bindings.Store
    _fast: FastOptions
    _cpus: list[int]
    _options: dict[str, object]
    _policy: ActivePolicy
    _read_only: bool
    _reserved: dict[str, int]
    _versions: Versions
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
        return apply(self._self(), delta)

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
        RuntimeError
            If a switch is running.

        Examples
        --------
        >>> store.resize(fast_bytes="8MiB")
        """
        in_memory = self._versions.slow._in_memory
        fast = fast_tier(fast_bytes, fast_rows, None, in_memory=in_memory)
        with self._versions.without_switch("resize"):
            self._core.resize(fast["fast_bytes"], fast["fast_rows"])
            self._fast = {
                **self._fast,
                "fast_bytes": fast["fast_bytes"],
                "fast_rows": fast["fast_rows"],
            }
            self._options.update(fast_bytes=fast_bytes, fast_rows=fast_rows)

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
        RuntimeError
            If a switch is running.
        io.UnsupportedOperation
            If the file was opened with mode "r".
        OSError
            If the file cannot be written. The table stays.

        Examples
        --------
        >>> store.drop_table("item")
        """
        check_writable(self._self(), "drop_table")
        with self._versions.without_switch("drop_table"):
            self._core.drop_table(self.table(name).position)
            del self._tables[name]
            self._reserved.pop(name, None)
            self._policy.fit(self._core, self._table_sizes())

    def switch(self, path: str | os.PathLike[str], *, background: bool = False) -> Switch:
        """Serve another version of the file from now on, warm, while lookups go on.

        Opens the file with the options of the present one, checks that it has the same tables, and
        brings in the rows that are resident now. Then every later call sees the new version, in all
        of its tables. A call in progress ends on the former version, whose file is closed after
        the last one. Updates until then are in the former file only. Policy, pins and a recording
        go on; statistics and what a learned policy has observed begin again.

        The DRAM of a second fast tier must be available during the switch.

        Parameters
        ----------
        path : path
            A file with the same tables in the same order: names, rows, dims and dtypes.
        background : bool
            Whether to return at once, after the check. `Switch.wait` waits for the end.

        Returns
        -------
        Switch

        Raises
        ------
        ValueError
            If the file has other tables, the message names the first difference; if it is the file
            that serves, is invalid, or the slow tier is memory; or if tables were dropped since the
            store was opened.
        MemoryError
            If too little DRAM is available for a second fast tier.
        OSError
            If the file cannot be opened or read, or another store has it open.
        RuntimeError
            If another switch is running.

            In each case nothing has changed.

        Examples
        --------
        >>> store.switch("tuesday.tier").resident_rows
        2
        >>> store.rollback().path
        'monday.tier'
        """
        return _await(begin_switch(self._self(), path), background)

    def rollback(self, *, background: bool = False) -> Switch:
        """Switch back to the file before the last switch.

        Waits until the calls on it have ended, then does what `switch` does. Updates that it got
        are there.

        Raises
        ------
        RuntimeError
            If the store has not been switched. Other errors as for `switch`; also ValueError if
            another file has its path now.
        """
        return _await(begin_rollback(self._self()), background)

    def _open_core(self, slow: SlowTier) -> _bindings.Store:
        """Open a file, or memory, with the store's budget and the simple policy of its policy."""
        return _bindings.Store(
            **slow._core_options(), **self._fast, cpus=self._cpus, policy=self._policy.simple
        )

    def _self(self) -> TieredStore:
        return cast("TieredStore", self)

    def _table_sizes(self) -> list[tuple[str, int]]:
        return [(table.name, table.num_embeddings) for table in self._tables.values()]


def _await(switch: Switch, background: bool) -> Switch:
    if not background:
        try:
            switch.wait()
        except BaseException:
            switch.cancel()
            raise
    return switch
