"""The calls of a store that operate it while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tieralloc.restart.resident_set import rows_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from tieralloc import _bindings
    from tieralloc.table import Table


class Operations:
    """Base class of `TieredStore`."""

    _core: _bindings.Store
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

    def _table_sizes(self) -> list[tuple[str, int]]:
        return [(table.name, table.num_embeddings) for table in self._tables.values()]
