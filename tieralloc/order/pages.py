"""The page of each row of a trace, for simulations that count device reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.order.order import Order, TableOrder
    from tieralloc.trace import Trace

__all__ = ["pages_of_rows"]


def pages_of_rows(
    trace: Trace, rows_per_page: int, order: Order | None = None
) -> NDArray[np.uint32]:
    """Return the page of each row of a trace's tables, as a file lays them out.

    Rows without an entry of the order lie in the order of their numbers, before the others.

    Parameters
    ----------
    trace : Trace
    rows_per_page : int
        Rows of a page, of all tables.
    order : Order, optional
        An order of the trace's tables; a table without one keeps its rows in place.

    Returns
    -------
    (rows of all tables,) uint32
        Rows numbered across the tables, as in ``trace.accesses()``.

    Raises
    ------
    ValueError
        If the order is of other row counts or rows per page.
    """
    pages = np.empty(int(trace.num_embeddings.sum()), dtype=np.uint32)
    next_page = 0
    for name, first, rows in zip(
        trace.table_names, trace.first_rows.tolist(), trace.num_embeddings.tolist(), strict=True
    ):
        part = pages[first : first + rows]
        table = order.tables.get(name) if order is not None else None
        others = np.ones(rows, dtype=bool)
        if table is not None:
            _check(table, name, rows, rows_per_page)
            others[table.rows] = False
        places = np.cumsum(others) - 1
        part[:] = next_page + places // rows_per_page
        next_page += -(-int(np.count_nonzero(others)) // rows_per_page)
        if table is not None:
            lengths = table.page_lengths
            part[table.rows] = np.repeat(next_page + np.arange(len(lengths)), lengths)
            next_page += len(lengths)
    return pages


def _check(table: TableOrder, name: str, rows: int, rows_per_page: int) -> None:
    for unit, expected, got in (
        ("rows", rows, table.num_embeddings),
        ("rows per page", rows_per_page, table.rows_per_page),
    ):
        if expected != got:
            raise ValueError(
                f"order: table {name!r}: is one of {got} {unit}; expected one of {expected}"
            )
