"""Rows copied from table to table as they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._common.progress import Report
from tieralloc._common.values import DECODED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.store import TieredStore
    from tieralloc.table import Table

__all__ = ["create_like", "stored_rows"]

_BYTES = 8 << 20  # in memory at a time


def create_like(store: TieredStore, table: Table, rows: int) -> Table:
    """Create a table of the same name and of rows of the same kind."""
    size = "row_bytes" if table.dtype == "bytes" else "embedding_dim"
    sizes: dict[str, Any] = {size: table.embedding_dim}
    return store.create_table(table.name, rows, dtype=table.dtype, **sizes)


def stored_rows(table: Table, first: int, last: int, report: Report) -> Iterator[NDArray[Any]]:
    """Yield rows of a table without decoding them; report those that were taken."""
    step = max(1, _BYTES // table.row_bytes)
    for row in range(first, last, step):
        indices = np.arange(row, min(row + step, last))
        yield table.lookup(indices, raw=table.dtype in DECODED)
        report(len(indices), table.name)
