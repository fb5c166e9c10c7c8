"""Tables and padding rows of a call, by the numbers that the core knows them by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tieralloc.table import Table

if TYPE_CHECKING:
    from tieralloc.store import TieredStore

__all__ = ["of_store", "paddings_of", "positions_of"]


def of_store(store: TieredStore, table: Table) -> Table:
    """Return the table; ValueError if it belongs to another store."""
    if table.store is not store:
        expected = ", ".join(store.tables) or "a table of this store"
        raise ValueError(f"tables: {table!r} belongs to another store; expected one of {expected}")
    return table


def positions_of(store: TieredStore, tables: Sequence[str | Table] | None) -> Sequence[int]:
    """Return the positions of tables in a store; None means all tables."""
    if tables is None:
        return [table.position for table in store._tables.values()]
    if isinstance(tables, (str, Table)):  # a string would be a sequence of one-letter names
        raise TypeError(f"tables: expected a sequence of names or tables, got {tables!r}")
    return [_position(store, table) for table in tables]


def _position(store: TieredStore, table: str | Table) -> int:
    if isinstance(table, str):
        return store.table(table).position
    if not isinstance(table, Table):
        raise TypeError(f"tables: expected names or tables, got {table!r}")
    return of_store(store, table).position


def paddings_of(
    store: TieredStore, positions: Sequence[int], padding_idx: Sequence[int | None] | None
) -> Sequence[int] | None:
    """Return the padding row of each table, -1 for none; None without `padding_idx`."""
    if padding_idx is None:
        return None
    if not isinstance(padding_idx, Sequence):
        raise TypeError(f"padding_idx: expected an entry per table, got {padding_idx!r}")
    if len(padding_idx) != len(positions):
        raise ValueError(
            f"padding_idx: expected {len(positions)} entries, one per table, None for a table "
            f"without padding, got {len(padding_idx)}"
        )
    tables = {table.position: table for table in store._tables.values()}
    return [
        -1 if row is None else tables[position]._padding(row)
        for position, row in zip(positions, padding_idx, strict=True)
    ]
