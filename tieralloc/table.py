"""A table of embedding vectors in a store."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np

from tieralloc._common.held_core import HeldCore
from tieralloc._common.numbers import as_integer, parse_size
from tieralloc._common.page_parts import cut_at_pages
from tieralloc._common.values import as_parts, as_values
from tieralloc.tiers import File

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from tieralloc._bindings import RowOrder, Store
    from tieralloc.operate.operations import Operations
    from tieralloc.store import TieredStore

__all__ = ["Out", "Table", "check_writable"]

_LOAD_BYTES = 4 << 20  # written per call

#: A writable buffer, such as an array or a tensor.
Out = TypeVar("Out")


class Table:
    """Rows of one dim and dtype; `TieredStore.create_table` returns it.

    NumPy has no bfloat16: results have the bits as uint16. `load` and `update` accept these bits,
    or round float32 values; a float32 `out` receives widened rows.

    Rows of int8 and int4 are quantised, each by a scale and a bias of its own. Results are float32,
    or float16 if `out` is. `load` and `update` quantise floats, or accept quantised rows as
    (n, `row_bytes`) uint8. A row is that of FBGEMM's ``IntNBitTableBatchedEmbeddingBagsCodegen`` on
    a CPU with ``row_alignment=1``: float16 scale, float16 bias, and a code of 8 or 4 bits per
    element, the lower half of a byte first. An element is ``scale * code + bias``. Pooled results
    equal FBGEMM's bit for bit, except in mode "max", which it lacks, and on processors without
    fused multiplication and addition.

    Rows of "float8_e4m3_ue8m0_32", with a scale of ue8m0 per block of 32 elements, are their
    elements and then their scales; scales may be "float32", blocks of 64 or 128. Results are
    float32, or float16 or bfloat16 if `out` is. `load` and `update` accept (n, `row_bytes`) uint8.

    Rows of "bytes" are (n, `row_bytes`) uint8; `embedding_bag` raises ValueError for them.

    Attributes
    ----------
    name : str
    num_embeddings : int
        Rows.
    embedding_dim : int
        Elements per row.
    dtype : str
        "float32", "float16", "bfloat16", "float64", "int8", "int4", "bytes" or one of float8.
    row_bytes : int
        Bytes per row. Both tiers add up to 63 bytes to a row, up to 3 to a row of single bytes.
    position : int
        Position in the store, in order of creation; that of a dropped table is not used again.
    """

    __slots__ = (
        "_store",
        "dtype",
        "embedding_dim",
        "name",
        "num_embeddings",
        "position",
        "row_bytes",
    )

    def __init__(
        self,
        store: TieredStore,
        position: int,
        name: str,
        num_embeddings: int,
        embedding_dim: int,
        dtype: str,
        row_bytes: int,
    ) -> None:
        self._store = store
        self.position = position
        self.name = name
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.dtype = dtype
        self.row_bytes = row_bytes

    @property
    def store(self) -> TieredStore:
        """The store of the table."""
        return self._store

    def __copy__(self) -> Table:
        return self

    def __deepcopy__(self, memo: object) -> Table:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return type(self._store).table, (self._store, self.name)

    @property
    def _core(self) -> Store:
        return self._store._core

    @property
    def resident(self) -> bool:
        """Whether the table lies in DRAM as a whole (`TieredStore.create_table`).

        False if it was to, and the slow tier has damaged rows of it.
        """
        return self._core.is_resident(self.position)

    def load(self, rows: ArrayLike | Iterable[ArrayLike], start: int | None = None) -> None:
        """Write rows to the slow tier, in row order; they are durable when the call returns.

        Copies in the fast tier are dropped; those of pinned rows and resident tables are replaced.

        Parameters
        ----------
        rows : (n, embedding_dim) array, or iterable of such arrays
            An iterable is streamed, one array in memory at a time, and written in whole pages.
            Floats are quantised some MiB at a time.
        start : int, optional
            First row to write; the rows may then be fewer than the table has. By default the rows
            must fill the table.

        Raises
        ------
        ValueError
            If the rows have another dim, are too many, or, without `start`, too few. Earlier arrays
            are already written. If a row cannot be quantised, because it has an infinite value or
            NaN, or its scale or bias exceeds float16; the message names it. Rows before it may be
            written.
        TypeError
            If the rows have another dtype.
        io.UnsupportedOperation
            If the file was opened with mode "r".
        OSError
            If the slow tier cannot be written. Each row of the call then has its old or its new
            value.
        """
        check_writable(self._store, "load")
        row = 0 if start is None else as_integer("start", start)
        if not 0 <= row <= self.num_embeddings:
            raise ValueError(
                f"start: not a row of table {self.name!r}; expected 0 to {self.num_embeddings}, "
                f"got {row}"
            )
        order = self._core.order(self.position)
        is_whole = start is None and hasattr(rows, "__array__")
        if order is not None and is_whole and len(np.asarray(rows)) == self.num_embeddings:
            self._load_in_file_order(order, np.asarray(rows).__getitem__)
            return
        parts = as_parts(self.dtype, self.embedding_dim, rows)
        if order is None:
            rows_per_page = self._core.pages(self.position)[1]
            parts = cut_at_pages(parts, rows_per_page, row, self.num_embeddings)
        with HeldCore(self._store) as held:
            for part in parts:
                row += held.core.load(self.position, row, part)
            held.core.settle()
        if start is None and row < self.num_embeddings:
            raise ValueError(
                f"rows: too few for table {self.name!r}; expected {self.num_embeddings}, got "
                f"{row}; pass start= to write a part of the table"
            )

    def _load_in_file_order(
        self,
        order: RowOrder | None,
        read: Callable[[NDArray[np.int64]], np.ndarray],
        report: Callable[[int], object] = lambda rows: None,
    ) -> None:
        """Write all rows, in whole pages: arranged rows in row order would go through the log.

        `read` returns the values of rows.
        """
        with HeldCore(self._store) as held:
            for rows in self._rows_in_file_order(order):
                self._load_rows(rows, read(rows), held.core)
                report(len(rows))
            held.core.settle()

    def _rows_in_file_order(self, order: RowOrder | None) -> Iterator[NDArray[np.int64]]:
        """Yield all rows in the order of the file, in whole pages."""
        rows_per_page = self._core.pages(self.position)[1]
        pages = max(1, _LOAD_BYTES // (rows_per_page * self.row_bytes))
        is_other = np.ones(self.num_embeddings, dtype=bool)
        arranged = np.empty(0, dtype=np.int64) if order is None else order.arranged().view(np.int64)
        is_other[arranged] = False
        others = np.flatnonzero(is_other)
        for first in range(0, len(others), pages * rows_per_page):
            yield others[first : first + pages * rows_per_page]
        if order is None:
            return
        ends = np.cumsum(order.page_lengths(), dtype=np.int64)
        for first in range(0, len(ends), pages):
            begin = 0 if first == 0 else int(ends[first - 1])
            yield arranged[begin : int(ends[min(first + pages, len(ends)) - 1])]

    def _load_rows(self, rows: NDArray[np.int64], values: ArrayLike, core: Store) -> None:
        """Write rows to the slow tier, durably once the core's `settle` returns."""
        core.update(self.position, rows, as_values(self.dtype, values), True)

    @overload
    def lookup(self, indices: ArrayLike, out: None = None, *, raw: bool = False) -> np.ndarray: ...

    @overload
    def lookup(self, indices: ArrayLike, out: Out, *, raw: bool = False) -> Out: ...

    def lookup(self, indices: ArrayLike, out: object = None, *, raw: bool = False) -> object:
        """Return copies of rows.

        Parameters
        ----------
        indices : (n,) int32 or int64
        out : writable buffer or tensor in DRAM, optional
            (n, embedding_dim) of the table's type, or of float32 for 16-bit rows, or of float32 or
            float16 for quantised rows, or bytes. With `raw`, (n, row_bytes) of uint8.
        raw : bool
            Whether to copy the bytes of rows. Rows of dtype "bytes" have no other form.

        Returns
        -------
        (n, embedding_dim) array
            Quantised rows are dequantised to float32. With `raw`, (n, row_bytes) of uint8. If `out`
            is given, it is returned.

        Raises
        ------
        IndexError
            If an index is out of range. Nothing is done.
        ValueError, TypeError
            If a shape or type is wrong, or the store is closed.
        OSError
            If a row cannot be read.
        """
        store = self._store
        result, outside = store._core.lookup(self.position, indices, out, raw, store._bounds)
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
            Rows of all bags, in order.
        offsets : (B,) or (B + 1,) int32 or int64
            Start of each bag and, with `include_last_offset`, end of the last bag.
        mode : {"sum", "mean", "max"}
            Pooling mode; an empty bag gives zeros.
        per_sample_weights : (nnz,) float32, optional
            Factor of each row (float64 for tables of float64); mode "sum" only.
        include_last_offset : bool
            Whether `offsets` holds the end of the last bag.
        padding_idx : int, optional
            Padding row, which bags skip; negative values count from the end.
        out : writable buffer or tensor in DRAM, optional
            (B, embedding_dim), otherwise as for `lookup`.

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
        result, outside = store._core.embedding_bag(
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
                f"padding_idx: not a row of table {self.name!r}; expected {-rows} to {rows - 1}, "
                f"got {row}"
            )
        return row % rows

    def update(self, indices: ArrayLike, values: ArrayLike) -> None:
        """Set rows to new values; later lookups see them.

        The values survive the end of the process when the call returns; `File` states when they
        survive a power cut. All rows of a call are set, or none. If an index is repeated, its last
        value applies. Resident rows stay resident; other rows do not become so.

        Parameters
        ----------
        indices : (n,) int32 or int64
        values : (n, embedding_dim) array
            Values of the table's dtype; for quantised rows floats, or (n, row_bytes) uint8.

        Raises
        ------
        IndexError
            If an index is out of range. Nothing is done.
        ValueError, TypeError
            If a shape or type is wrong, the store is closed, or a row cannot be quantised (`load`).
            Nothing is done.
        io.UnsupportedOperation
            If the file was opened with mode "r".
        OSError
            If the redo log cannot be written, or a full one cannot be written back. Nothing is
            done. With ``durability="commit"`` also if the log cannot be synced: lookups see the
            values then, and `TieredStore.flush` raises until they are durable.
        """
        check_writable(self._store, "update")
        self._core.update(self.position, indices, as_values(self.dtype, values))

    def prefetch(self, indices: ArrayLike) -> int:
        """Prefetch rows in the background: a hint that returns at once.

        Parameters
        ----------
        indices : (n,) int32 or int64

        Returns
        -------
        int
            Rows queued. Resident rows are not queued; rows that do not fit into the queue are
            dropped and counted.
        """
        return self._core.prefetch((self.position,), indices, None, False, self._store._bounds)

    def pin(self, indices: ArrayLike) -> None:
        """Make rows resident until `unpin`: all of them, or none on an error.

        Parameters
        ----------
        indices : (n,) int32 or int64

        Raises
        ------
        ValueError
            If the fast tier has no room for so many pinned rows.
        IndexError, OSError
            As for `lookup`.
        """
        with self._store._versions.changing:
            self._core.pin(self.position, indices)

    def unpin(self, indices: ArrayLike) -> None:
        """Allow the eviction of rows again; rows that are not pinned are ignored."""
        with self._store._versions.changing:
            self._core.unpin(self.position, indices)

    def reserve(self, *, fast_bytes: int | str | None) -> None:
        """Give the table a fast tier of its own, of at least `fast_bytes`, while the store is open.

        It is larger if the table's share of the budget is. Resident rows and pins stay. It has no
        effect if a later budget lets the table lie in DRAM as a whole.

        Parameters
        ----------
        fast_bytes : int, str or None
            Vectors, index and metadata. None: the table shares a fast tier again.

        Raises
        ------
        ValueError
            If the table lies in DRAM as a whole, or the budget is `fast_rows`, or less than all
            reserved bytes and a row of each tier.
        MemoryError
            As for `TieredStore.resize`.
        """
        size = 0 if fast_bytes is None else parse_size(fast_bytes, "fast_bytes")
        with self._store._versions.without_switch("reserve"):
            if size > 0 and self.resident:
                raise ValueError(
                    f"reserve: {self!r} lies in DRAM as a whole; expected one with resident=False"
                )
            self._core.reserve(self.position, size)
            self._store._reserved[self.name] = size

    def resize(self, num_embeddings: int) -> None:
        """Add rows of zeros while the store serves; `num_embeddings` is the new number of rows.

        The rows take the space behind the table in the file. If there is none, because another
        table or an order lies there, the table is copied to the end of the file, or to a gap: that
        needs its space once more until the call returns. Lookups go on meanwhile, writers wait.
        When the call returns, the rows survive power loss; a crash before leaves the table with its
        former rows or with all. Resident rows and pins stay. A learned policy begins again if it
        knows no row by its number, as those of `recmg`; others stop.

        Parameters
        ----------
        num_embeddings : int
            At least the present number.

        Raises
        ------
        ValueError
            If the table would shrink or be too large, the store is being recorded, or the rows
            leave too few slots: for pinned rows, for each fast tier, or for a table that is to lie
            in DRAM as a whole. Nothing changes.
        MemoryError
            If the machine has too little DRAM available. Nothing changes.
        OSError
            If the file cannot grow or be written, or pages of the table are damaged. Nothing
            changes.
        RuntimeError
            If a switch is running.
        io.UnsupportedOperation
            If the file was opened with mode "r".

        Examples
        --------
        >>> table.resize(2_000_000)
        """
        check_writable(self._store, "resize")
        rows = as_integer("num_embeddings", num_embeddings)
        store = self._store
        with store._versions.without_switch("resize"):
            sizes = store._table_sizes()
            grown = [(name, max(old, rows) if name == self.name else old) for name, old in sizes]
            with store._policy.fitting(self._core, sizes, grown):
                self._core.grow_table(self.position, rows)
                self.num_embeddings = rows

    def __len__(self) -> int:
        return self.num_embeddings

    def __repr__(self) -> str:
        return f"<Table {self.name!r} of {self.num_embeddings} x {self.embedding_dim} {self.dtype}>"


def check_writable(store: Operations, call: str) -> None:
    """Raise io.UnsupportedOperation if the store is open and only reads its files."""
    if store._read_only and not store.closed:
        slow = store._versions.slow
        got = f"mode {slow.mode!r}" if isinstance(slow, File) else "a Checkpoint"
        raise io.UnsupportedOperation(
            f"{store._versions.path or slow}: {call} writes; expected a store of mode 'r+' or "
            f"'a', got {got}"
        )
