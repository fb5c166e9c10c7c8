"""Random orders of rows, for tests."""

import numpy as np
from hypothesis import strategies as st

from tieralloc._bindings import rows_per_page
from tieralloc.order import Order, TableOrder


def random_order(rows, capacity, rng):
    """Return an order of some rows of a table, on pages of random lengths."""
    arranged = rng.permutation(rows)[: int(rng.integers(rows + 1))]
    lengths, left = [], len(arranged)
    while left:
        lengths.append(min(left, int(rng.integers(1, capacity + 1))))
        left -= lengths[-1]
    return TableOrder(rows, capacity, arranged.astype(np.uint64), np.array(lengths, np.uint32))


def order_for(rng, **tables):
    """Return an order of tables, each a tuple (rows, dim, dtype)."""
    return Order(
        {
            name: random_order(rows, rows_per_page(dim, dtype), rng)
            for name, (rows, dim, dtype) in tables.items()
        }
    )


seeds = st.integers(0, 2**32 - 1)
