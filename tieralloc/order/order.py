"""The file of an order: arranged rows of each table, page after page."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._bindings import RowOrder, rows_per_page
from tieralloc._common.files import decoding, naming, replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Order", "TableOrder", "order_of"]

_FORMAT = "tieralloc order 1"
_FIELDS = {
    "table_names": ("U", 1),
    "num_embeddings": ("iu", 1),
    "rows_per_page": ("iu", 1),
    "pages": ("iu", 1),
    "page_lengths": ("iu", 1),
    "rows": ("iu", 1),
}


@dataclass(frozen=True, eq=False)
class TableOrder:
    """The arranged rows of one table; its other rows stay where their numbers place them.

    Parameters
    ----------
    num_embeddings : int
        Rows of the table.
    rows_per_page : int
        Rows of a full page.
    rows : (n,) uint64
        Arranged rows, page after page, each once.
    page_lengths : (pages,) uint32
        Rows of each page, 1 to `rows_per_page`.
    """

    num_embeddings: int
    rows_per_page: int
    rows: NDArray[np.uint64]
    page_lengths: NDArray[np.uint32]

    def row_order(self, table: str) -> RowOrder:
        """Return the map from rows to places; ValueError names the first invalid row or page."""
        return RowOrder(
            table,
            self.num_embeddings,
            self.rows_per_page,
            np.ascontiguousarray(self.rows, dtype=np.uint64),
            np.ascontiguousarray(self.page_lengths, dtype=np.uint32),
        )

    def permutation(self) -> NDArray[np.int64]:
        """Return a new number of each row, (num_embeddings,): pages become consecutive rows.

        Unarranged rows fill the room of pages, the fullest first, and follow at the end. A caller
        that renumbers its rows by this needs no map in DRAM.
        """
        is_other = np.ones(self.num_embeddings, dtype=bool)
        is_other[self.rows.astype(np.int64)] = False
        others = np.flatnonzero(is_other)
        by_length = np.argsort(-self.page_lengths.astype(np.int64), kind="stable")
        room = self.rows_per_page - self.page_lengths[by_length].astype(np.int64)
        # Pages that others can fill get them; the rest keeps its rows together as far as it can.
        ends = np.cumsum(room)
        room[ends > len(others)] = 0
        ends = np.cumsum(room)
        starts = np.cumsum(self.page_lengths, dtype=np.int64) - self.page_lengths
        parts = []
        for page, filled, count in zip(by_length, ends - room, room, strict=True):
            begin = int(starts[page])
            parts.append(self.rows[begin : begin + int(self.page_lengths[page])].astype(np.int64))
            parts.append(others[filled : filled + count])
        used = int(ends[-1]) if len(ends) else 0
        rows = np.concatenate([*parts, others[used:]])
        numbers = np.empty(self.num_embeddings, dtype=np.int64)
        numbers[rows] = np.arange(self.num_embeddings)
        return numbers


@dataclass(frozen=True, eq=False)
class Order:
    """Orders of tables, by name.

    Parameters
    ----------
    tables : mapping of str to TableOrder
    name : str
        Name in errors: the path of the file.
    """

    tables: Mapping[str, TableOrder] = field(default_factory=dict)
    name: str = "order"

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Order:
        """Return the order in a file.

        Raises
        ------
        ValueError
            If the file is no order, or an order is invalid: a row that a table does not have or
            that is there twice, a page with too many rows. The message names the first one.
        OSError
            If the file cannot be read.
        """
        name = os.fspath(path)
        with open(path, "rb") as file, decoding(name, "order"):
            if not zipfile.is_zipfile(file):
                raise ValueError("expected a .npz file that tieralloc arrange has written")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            order = cls(_tables_of(arrays), name)
        for table in order.tables:
            order.row_order(table)
        return order

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the order to a file, completely or not at all."""
        tables = list(self.tables.values())
        with replacing(path) as file, naming(path):
            np.savez_compressed(
                file,
                format=np.array(_FORMAT),
                table_names=np.array(list(self.tables), dtype=np.str_),
                num_embeddings=np.array([table.num_embeddings for table in tables], np.int64),
                rows_per_page=np.array([table.rows_per_page for table in tables], np.int64),
                pages=np.array([len(table.page_lengths) for table in tables], np.int64),
                page_lengths=_joined([table.page_lengths for table in tables], np.uint32),
                rows=_joined([table.rows for table in tables], np.uint64),
            )

    def row_order(self, table: str) -> RowOrder:
        """Return the map of a table; ValueError names the first invalid row or page."""
        try:
            return self.tables[table].row_order(table)
        except ValueError as error:
            raise ValueError(f"{self.name}: {str(error).removeprefix('order: ')}") from None


def order_of(
    order: Order | str | os.PathLike[str] | None,
    table: str,
    num_embeddings: int,
    dim: int,
    dtype: str,
) -> RowOrder | None:
    """Return the map for a table of a store; None without an order.

    Raises
    ------
    ValueError
        If the order has no such table, one of another number of rows, or was learned for another
        number of rows per page; or as `Order.read`.
    OSError
        As `Order.read`.
    """
    if order is None:
        return None
    if not isinstance(order, Order):
        order = Order.read(order)
    if table not in order.tables:
        known = ", ".join(map(repr, order.tables)) or "no table"
        raise ValueError(f"{order.name}: no order of table {table!r}; expected one of {known}")
    found = order.tables[table]
    if found.num_embeddings != num_embeddings:
        raise ValueError(
            f"{order.name}: table {table!r}: is an order of {found.num_embeddings} rows; expected "
            f"one of {num_embeddings}, as the table has"
        )
    capacity = rows_per_page(dim, dtype)
    if found.rows_per_page != capacity:
        raise ValueError(
            f"{order.name}: table {table!r}: is an order of {found.rows_per_page} rows per page; "
            f"expected {capacity}, for dim {dim} and {dtype} (tieralloc arrange --embedding-dim "
            f"{dim} --dtype {dtype})"
        )
    return order.row_order(table)


def _tables_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, TableOrder]:
    _check_arrays(arrays)
    names = [str(name) for name in arrays["table_names"]]
    tables = {}
    page = row = 0
    for i, name in enumerate(names):
        lengths = arrays["page_lengths"][page : page + int(arrays["pages"][i])]
        page += len(lengths)
        rows = arrays["rows"][row : row + int(lengths.sum())]
        row += len(rows)
        tables[name] = TableOrder(
            int(arrays["num_embeddings"][i]),
            int(arrays["rows_per_page"][i]),
            rows.astype(np.uint64),
            lengths.astype(np.uint32),
        )
    return tables


def _check_arrays(arrays: Mapping[str, NDArray[Any]]) -> None:
    if str(arrays["format"]) != _FORMAT:
        raise ValueError(f"expected format {_FORMAT!r}, got {str(arrays['format'])!r}")
    for name, (kinds, ndim) in _FIELDS.items():
        array = arrays[name]
        if array.dtype.kind not in kinds or array.ndim != ndim:
            kind = "integers" if kinds == "iu" else "strings"
            raise ValueError(
                f"{name}: expected {kind} of {ndim} dimension, got {array.dtype} of shape "
                f"{array.shape}"
            )
        if kinds == "iu" and array.size and array.min() < 0:
            raise ValueError(f"{name}: expected at least 0, got {array.min()}")
    names = arrays["table_names"].tolist()
    if len(set(names)) != len(names):
        raise ValueError(f"table_names: expected each name once, got {names}")
    for name in ("num_embeddings", "rows_per_page", "pages"):
        if len(arrays[name]) != len(names):
            raise ValueError(f"{name}: expected {len(names)} tables, got {len(arrays[name])}")
    lengths = arrays["page_lengths"]
    for what, expected, got in (
        ("page_lengths", int(arrays["pages"].sum()), len(lengths)),
        ("rows", int(lengths.sum()), len(arrays["rows"])),
    ):
        if expected != got:
            raise ValueError(f"{what}: expected {expected}, got {got}")


def _joined(arrays: list[NDArray[Any]], dtype: type[np.integer[Any]]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype)
