"""Rewrites the tables of a file in an order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import tieralloc as ta
from tieralloc._common.files import sync_directory
from tieralloc._common.progress import Progress, silent
from tieralloc._common.values import DECODED
from tieralloc.order.order import order_of
from tieralloc.tools.check import open_cold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc._bindings import RowOrder
    from tieralloc.order import Order

__all__ = ["apply"]

_FAST_BYTES = 16 << 20


def apply(path: str, order: Order, progress: Progress = silent) -> list[str]:
    """Write the tables of a file in an order; other tables stay as they are.

    The new file, ``path.tmp``, takes the place of the old one once it is complete and durable: a
    crash leaves the old file or the new one. Updates in the redo log are in the new file.

    Returns
    -------
    list of str
        The arranged tables.

    Raises
    ------
    ValueError
        If the order is of tables that the file does not have, or of other row counts or rows per
        page, or invalid. Nothing is written.
    OSError
        If the file is open in another store, or the disk lacks space for both files. The old file
        is unchanged.
    """
    target = os.path.realpath(path)
    temporary = f"{target}.tmp"
    with open_cold(path) as old:
        orders = _orders(old, path, order)
        try:
            slow = ta.File(temporary, mode="w")
            with ta.TieredStore(slow=slow, fast_bytes=_budget(old, orders)) as new:
                for table in old.tables.values():
                    _copy(table, new, orders.get(table.name), progress)
                if old.version:
                    new.apply(ta.Delta(old.version, 0, []))
            os.chmod(temporary, os.stat(target).st_mode & 0o777)
            os.replace(temporary, target)
            sync_directory(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return [name for name in order.tables if name in orders]


def _orders(store: ta.TieredStore, path: str, order: Order) -> dict[str, RowOrder]:
    """Return the new order of each table that has one, by name."""
    unknown = [
        name for name, table in order.tables.items() if len(table.rows) and name not in store.tables
    ]
    if unknown:
        known = ", ".join(map(repr, store.tables)) or "no table"
        raise ValueError(f"{order.name}: is an order of table {unknown[0]!r}; {path} has {known}")
    orders = {}
    for name, table in store.tables.items():
        if name in order.tables and len(order.tables[name].rows):
            shape = (table.num_embeddings, table.embedding_dim, table.dtype)
            orders[name] = order_of(order, name, *shape)
        else:
            orders[name] = store._core.order(table.position)
    return {name: found for name, found in orders.items() if found is not None}


def _budget(store: ta.TieredStore, orders: dict[str, RowOrder]) -> int:
    """Return `fast_bytes` that hold the orders and the tables that are to be resident."""
    resident = sum(
        table.num_embeddings * (table.embedding_dim * 8 + 64) + 4096
        for table in store.tables.values()
        if store._core.residency(table.position) is True
    )
    return _FAST_BYTES + resident + sum(order.bytes for order in orders.values())


def _copy(table: ta.Table, new: ta.TieredStore, order: RowOrder | None, progress: Progress) -> None:
    """Write a table to another store, in the order of its file."""
    shape = (table.num_embeddings, table.embedding_dim, table.dtype)
    resident = table._core.residency(table.position)
    new._core.create_table(table.name, *shape, resident, order)
    new._add_tables()

    def read(rows: NDArray[np.int64]) -> np.ndarray:
        return np.asarray(table.lookup(rows, raw=table.dtype in DECODED))

    report: Callable[[int], object]
    with progress(f"writing {table.name}", len(table), "rows") as report:
        new.table(table.name)._load_in_file_order(order, read, report)
