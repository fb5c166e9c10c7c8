"""The calls of a store that operate it while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tieralloc import _bindings
from tieralloc.operate.switch import Switch, begin_rollback, begin_switch
from tieralloc.restart.resident_set import rows_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from tieralloc.policy.planned import ActivePolicy
    from tieralloc.store import TieredStore
    from tieralloc.table import Table
    from tieralloc.tiers import FastOptions, SlowTier


class Operations:
    """Base class of `TieredStore`."""

    _core: _bindings.Store
    _fast: FastOptions
    _cpus: list[int]
    _policy: ActivePolicy
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
            that serves, is invalid, or the slow tier is memory.
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
