"""Row values computed from table and row number, so that any served vector can be verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PART_BYTES = 8 << 20
#: A float32 sum of up to this many values, multiples of 1/256 in [-1, 1), is exact in any order.
_MAX_EXACT_ROWS = 1 << 16
#: Half a step of a row's codes, and the rounding of its scale and bias to float16.
_ROUNDING = {"int8": 1 / 255 + 1 / 512, "int4": 1 / 15 + 1 / 512}


class SourceRows:
    """Source values of a store's tables.

    Parameters
    ----------
    num_embeddings : sequence of int
        Rows of each table.
    embedding_dim : int
        Elements per row, the same in all tables.
    dtype : str
        Of the tables. A served sum of quantised rows may differ by half a step per row.
    """

    def __init__(
        self, num_embeddings: Sequence[int], embedding_dim: int, dtype: str = "float32"
    ) -> None:
        self.num_embeddings = list(num_embeddings)
        self.embedding_dim = embedding_dim
        self.dtype = dtype
        self._columns = _hash(np.arange(1, embedding_dim + 1, dtype=np.uint64) << np.uint64(32))

    def rows(
        self, table: int | NDArray[np.int64], indices: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the values of rows of table number `table`, one or one per row: (n, dim)."""
        keys = indices.astype(np.uint64) * np.uint64(len(self.num_embeddings))
        tables = np.asarray(table, dtype=np.uint64)
        bits = _hash(keys + tables)[:, None] ^ self._columns[None, :]
        bits *= np.uint32(0x2C1B3C6D)
        bits >>= np.uint32(23)
        values = bits.astype(np.float32)
        values *= np.float32(1 / 256)
        values -= np.float32(1)
        return values

    def rows_across(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the values of rows that are numbered across the tables, (n, dim)."""
        starts = np.cumsum((0, *self.num_embeddings[:-1]))
        tables = np.searchsorted(starts, rows, side="right") - 1
        return self.rows(tables, rows - starts[tables])

    def parts(self, table: int) -> Iterator[NDArray[np.float32]]:
        """Yield all rows of a table in order, in parts of 8 MiB at most."""
        step = max(_PART_BYTES // (4 * self.embedding_dim), 1)
        total = self.num_embeddings[table]
        for begin in range(0, total, step):
            yield self.rows(table, np.arange(begin, min(begin + step, total), dtype=np.int64))

    def first_wrong(
        self,
        served: NDArray[np.float32],
        tables: Sequence[int],
        indices: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> tuple[int, int] | None:
        """Return the first pooled vector that is not the sum of its rows.

        Parameters
        ----------
        served : (B, T * embedding_dim) float32
            Result of ``store.embedding_bag``.
        tables : sequence of int
            The T tables of the call.
        indices, offsets : (nnz,), (T * B + 1,) int64
            The call, table-major.

        Returns
        -------
        (table, bag) or None
            Position of the first wrong vector; the table is an element of `tables`.
        """
        bags = len(served)
        for position, table in enumerate(tables):
            ends = offsets[position * bags : (position + 1) * bags + 1]
            columns = slice(position * self.embedding_dim, (position + 1) * self.embedding_dim)
            expected = self._sums(table, indices[ends[0] : ends[-1]], ends - ends[0])
            lengths = np.diff(ends)
            slack = 0 if lengths.max(initial=0) <= _MAX_EXACT_ROWS else 1e-5 * np.abs(expected)
            slack = slack + lengths[:, None] * _ROUNDING.get(self.dtype, 0)
            is_right = np.abs(served[:, columns] - expected) <= slack
            if not is_right.all():
                return table, int(np.flatnonzero(~is_right.all(axis=1))[0])
        return None

    def _sums(
        self, table: int, indices: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        sums = np.zeros((len(ends) - 1, self.embedding_dim))
        non_empty = np.flatnonzero(np.diff(ends))
        if len(non_empty):
            # All bags between two non-empty ones are empty, so that reduceat sums whole bags.
            rows = self.rows(table, indices)
            sums[non_empty] = np.add.reduceat(rows, ends[non_empty], axis=0, dtype=np.float64)
        return sums


def _hash(keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return a 32-bit hash of each key."""
    keys = keys * np.uint64(0x9E3779B97F4A7C15)
    keys ^= keys >> np.uint64(29)
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray(keys >> np.uint64(32), dtype=np.uint32)
