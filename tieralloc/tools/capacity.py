"""Rows of the fast tier for a budget of DRAM, and a budget for a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tieralloc._common.files import temporary_directory
from tieralloc.order import Order
from tieralloc.policy.planned import FALLBACK
from tieralloc.store import TieredStore
from tieralloc.tiers import File
from tieralloc.tools.disk import default_directory
from tieralloc.trace import Trace
from tieralloc.trace.stream import count_distinct

_OPT = "opt"


def rows_within(
    fast_bytes: int | str,
    table_rows: Sequence[int],
    embedding_dim: int,
    policies: Sequence[str] = (FALLBACK,),
    dtype: str = "float32",
) -> int:
    """Return the rows of the fast tier of a store with this budget: the fewest of the policies.

    The store itself computes them, on a sparse file that is removed. No table is resident: a policy
    decides about all rows. ValueError if the budget does not contain one row, MemoryError if the
    machine has less memory available.
    """
    names = {FALLBACK if ":" in name else "lru" if name == _OPT else name for name in policies}
    rows = []
    with temporary_directory(default_directory()) as directory:
        for name in sorted(names):
            slow = File(Path(directory, f"{name}.tier"), mode="w", reserve=False)
            with TieredStore(slow=slow, fast_bytes=fast_bytes, policy=name) as store:
                for number, count in enumerate(table_rows):
                    store.create_table(str(number), count, embedding_dim, dtype, resident=False)
                rows.append(store.stats().fast_rows)
    return min(rows)


def bytes_for(
    fast_rows: int,
    rows: int,
    embedding_dim: int,
    policy: str = FALLBACK,
    dtype: str = "float32",
) -> int:
    """Return the budget, `fast_bytes`, of so many fast rows: the reverse of `rows_within`.

    `rows` is the sum of all tables. In proportion to the budget of fewer fast rows if the machine
    has less memory available.
    """
    fast_rows, factor = min(fast_rows, rows), 1.0
    while True:
        try:
            size = _bytes_of_store(fast_rows, rows, embedding_dim, policy, dtype)
            return math.ceil(factor * size)
        except MemoryError:
            if fast_rows < 2:
                raise
            factor *= fast_rows / (fast_rows // 2)
            fast_rows //= 2


def _bytes_of_store(fast_rows: int, rows: int, embedding_dim: int, policy: str, dtype: str) -> int:
    with temporary_directory(default_directory()) as directory:
        path = Path(directory, "slow.tier")
        slow = File(path, mode="w", reserve=False, warm_restart_interval=None)
        with TieredStore(slow=slow, fast_rows=fast_rows, policy=policy) as store:
            store.create_table("all", rows, embedding_dim, dtype, resident=False)
            dram = store.stats().dram
            return dram.vector_bytes + dram.index_bytes + dram.metadata_bytes


def fractions_within(
    sizes: Sequence[int],
    trace: Trace,
    embedding_dim: int,
    policies: Sequence[str],
    order: Order | None = None,
    dtype: str = "float32",
) -> list[float]:
    """Return the fast fractions of budgets: rows within ÷ distinct rows of the trace, at most 1.

    The map of an order is part of the budget.
    """
    map_bytes = 0 if order is None else sum(order.row_order(name).bytes for name in order.tables)
    table_rows = trace.num_embeddings.tolist()
    distinct = count_distinct(trace.accesses(), sum(table_rows))
    rows = (
        rows_within(size - map_bytes, table_rows, embedding_dim, policies, dtype) for size in sizes
    )
    return [min(1.0, count / distinct) for count in rows]
