"""A table of embedding vectors in a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast, overload

import numpy as np

from tieralloc._common.numbers import as_integer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from tieralloc.store import TieredStore

__all__ = ["Out", "Table", "dtype_name", "of_store", "paddings_of", "positions_of"]

#: A writable buffer, such as an array or a tensor.
Out = TypeVar("Out")


class Table:
    """Rows of one width and type; made by `TieredStore.create_table`.

    Rows of bfloat16, a type that NumPy lacks, come and go as the uint16 of their bits. `load` and
    `update` also round float32 to them, and a float32 `out` widens them.

    Attributes
    ----------
    name : str
    num_embeddings : int
        Rows.
    embedding_dim : int
        Elements a row.
    dtype : str
        "float32", "float16", "bfloat16" or "float64".
    position : int
        Among the store's tables, from 0.
    """

    __slots__ = ("_core", "_store", "dtype", "embedding_dim", "name", "num_embeddings", "position")

    def __init__(
        self,
        store: TieredStore,
        position: int,
        name: str,
        num_embeddings: int,
        embedding_dim: int,
        dtype: str,
    ) -> None:
        self._store = store
        self._core = store._core
        self.position = position
        self.name = name
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.dtype = dtype

    @property
    def store(self) -> TieredStore:
        """The store that the table is in."""
        return self._store

    def load(self, rows: ArrayLike | Iterable[ArrayLike], start: int | None = None) -> None:
        """Write rows to the slow tier, in row order.

        Copies in the fast tier are dropped, those of pinned rows replaced.

        Parameters
        ----------
        rows : (n, embedding_dim) array, or iterable of such arrays
            An iterable is streamed: one of its arrays is in memory at a time.
        start : int, optional
            The row to begin with; the rows may then end before the table does. By default they
            must fill the table.

        Raises
        ------
        ValueError
            For rows of another width, too many, or, without `start`, too few. Arrays before the
            offending one are written by then.
        TypeError
            For rows of another type.
        io.UnsupportedOperation
            If the file was opened with mode "r".
        OSError
            If the slow tier cannot be written. Rows of the current array then have their old value
            or their new one.
        """
        self._store._check_writable("load")
        row = 0 if start is None else as_integer("start", start)
        if not 0 <= row <= self.num_embeddings:
            raise ValueError(
                f"start is {start}, expected a row of table {self.name!r}: 0 to "
                f"{self.num_embeddings}"
            )
        for part in _parts_of(rows):
            row += self._core.load(self.position, row, self._as_values(part))
        self._core.settle()
        if start is None and row < self.num_embeddings:
            raise ValueError(
                f"rows end after {row}, expected the {self.num_embeddings} of table "
                f"{self.name!r}; pass start= to write a part of it"
            )

    @overload
    def lookup(self, indices: ArrayLike, out: None = None) -> np.ndarray: ...

    @overload
    def lookup(self, indices: ArrayLike, out: Out) -> Out: ...

    def lookup(self, indices: ArrayLike, out: object = None) -> object:
        """Return copies of rows.

        Parameters
        ----------
        indices : (n,) int32 or int64
        out : writable buffer, optional
            (n, embedding_dim) of the table's type, or of float32 for 16-bit rows, or bytes.

        Returns
        -------
        (n, embedding_dim) array
            `out` itself where it was given.

        Raises
        ------
        IndexError
            For an index out of range; nothing is done then.
        ValueError, TypeError
            For wrong shapes or types, or a closed store.
        OSError
            Where a row cannot be read.
        """
        store = self._store
        result, outside = self._core.lookup(self.position, indices, out, store._bounds)
        if outside:
            store._warn_out_of_range(outside)
        return result

    @overload
    def embedding_bag(
        self,
        indices: ArrayLike,
        offsets: ArrayLike,
        mode: str = "sum",
        per_sample_weights: ArrayLike | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        out: None = None,
    ) -> np.ndarray: ...

    @overload
    def embedding_bag(
        self,
        indices: ArrayLike,
        offsets: ArrayLike,
        mode: str = "sum",
        per_sample_weights: ArrayLike | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        out: Out,
    ) -> Out: ...

    def embedding_bag(
        self,
        indices: ArrayLike,
        offsets: ArrayLike,
        mode: str = "sum",
        per_sample_weights: ArrayLike | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        out: object = None,
    ) -> object:
        """Pool bags of rows, with the semantics of ``torch.nn.functional.embedding_bag``.

        Parameters
        ----------
        indices : (nnz,) int32 or int64
            Rows of all bags, one bag after the other.
        offsets : (B,) or (B + 1,) int32 or int64
            Where each bag begins and, with `include_last_offset`, where the last one ends.
        mode : {"sum", "mean", "max"}
            An empty bag gives zeros.
        per_sample_weights : (nnz,) float32, optional
            What each row is multiplied with (float64 for tables of float64); mode "sum" only.
        include_last_offset : bool
            Whether `offsets` holds the end of the last bag.
        padding_idx : int, optional
            A row that bags leave out.
        out : writable buffer, optional
            As for `lookup`, a line a bag.

        Returns
        -------
        (B, embedding_dim) array

        Raises
        ------
        IndexError, ValueError, TypeError, OSError
            As for `TieredStore.embedding_bag`.
        """
        store = self._store
        paddings = None if padding_idx is None else (self._padding(padding_idx),)
        result, outside = self._core.embedding_bag(
            (self.position,),
            paddings,
            indices,
            offsets,
            include_last_offset,
            mode,
            per_sample_weights,
            out,
            store._bounds,
        )
        if outside:
            store._warn_out_of_range(outside)
        return result

    def _padding(self, padding_idx: int) -> int:
        rows = self.num_embeddings
        row = as_integer("padding_idx", padding_idx)
        if not -rows <= row < rows:
            raise ValueError(
                f"padding_idx is {row}, expected a row of table {self.name!r} of {rows} rows, "
                "from the end where negative"
            )
        return row % rows

    def update(self, indices: ArrayLike, values: ArrayLike) -> None:
        """Set rows to new values; lookups that begin afterwards see them.

        The values go to the fast tier at once and to the slow one in the background, by `flush` or
        by `close`. Of an index given twice the later value stays.

        Parameters
        ----------
        indices : (n,) int32 or int64
        values : (n, embedding_dim) array
            Of the table's type.

        Raises
        ------
        IndexError
            For an index out of range; nothing is done then.
        ValueError, TypeError
            For wrong shapes or types, or a closed store.
        io.UnsupportedOperation
            If the file was opened with mode "r".
        OSError
            If the fast tier is full of rows that cannot be written back.
        """
        self._store._check_writable("update")
        self._core.update(self.position, indices, self._as_values(values))

    def prefetch(self, indices: ArrayLike) -> int:
        """Have rows fetched in the background: a hint that returns at once.

        Parameters
        ----------
        indices : (n,) int32 or int64

        Returns
        -------
        int
            Rows queued; those resident already are not, and those that the queue has no room for
            are dropped and counted.
        """
        return self._core.prefetch((self.position,), indices, None, False, self._store._bounds)

    def pin(self, indices: ArrayLike) -> None:
        """Make rows resident and keep them so, until `unpin`. All of them, or none.

        Parameters
        ----------
        indices : (n,) int32 or int64

        Raises
        ------
        ValueError
            Where the fast tier has no room for so many pinned rows.
        IndexError, OSError
            As for `lookup`.
        """
        self._core.pin(self.position, indices)

    def unpin(self, indices: ArrayLike) -> None:
        """Let the policy evict rows again; those that are not pinned are passed over."""
        self._core.unpin(self.position, indices)

    def _as_values(self, values: ArrayLike) -> ArrayLike:
        narrow = self.dtype == "bfloat16"
        if isinstance(values, (list, tuple)):  # numbers without a type of their own
            values = np.asarray(values, dtype=np.float32 if narrow else self.dtype)
        if not narrow:
            return values
        array = np.asarray(values)
        return _round_to_bfloat16(array) if array.dtype == np.float32 else array

    def __len__(self) -> int:
        return self.num_embeddings

    def __repr__(self) -> str:
        return f"<Table {self.name!r} of {self.num_embeddings} x {self.embedding_dim} {self.dtype}>"


def dtype_name(dtype: DTypeLike | str) -> str:
    """Return a type of NumPy or torch as the core has it."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    return name.removeprefix("torch.")


def of_store(store: TieredStore, table: Table) -> Table:
    """Return the table if it is one of the store's; ValueError otherwise."""
    if table.store is not store:
        raise ValueError(f"{table!r} is of another store, expected one of {list(store.tables)}")
    return table


def positions_of(store: TieredStore, tables: Sequence[str | Table] | None) -> Sequence[int]:
    """Return the positions of tables of a store, of all of them for None."""
    if tables is None:
        return range(len(store._tables))
    if isinstance(tables, (str, Table)):  # a string is a sequence of names, of one letter each
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
    """Return the padding row of each of some tables, -1 for none; None if no table has one."""
    if padding_idx is None:
        return None
    if not isinstance(padding_idx, Sequence):
        raise TypeError(f"padding_idx: expected an entry per table, got {padding_idx!r}")
    if len(padding_idx) != len(positions):
        raise ValueError(
            f"padding_idx: expected {len(positions)} entries, one per table, None for a table "
            f"without padding, got {len(padding_idx)}"
        )
    tables = list(store._tables.values())
    return [
        -1 if row is None else tables[position]._padding(row)
        for position, row in zip(positions, padding_idx, strict=True)
    ]


def _parts_of(rows: ArrayLike | Iterable[ArrayLike]) -> Iterable[ArrayLike]:
    if hasattr(rows, "__array__") or isinstance(rows, memoryview):
        return [cast("ArrayLike", rows)]
    if not isinstance(rows, Iterable):
        kind = type(rows).__name__
        raise TypeError(f"rows are of type {kind}, expected an array or an iterable of arrays")
    return rows


def _round_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)
