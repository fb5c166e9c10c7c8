"""Parts of deltas: rows of one table, in pieces of some MiB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_VERSION", "Part", "split"]

#: The largest version of a store.
MAX_VERSION = (1 << 63) - 1

#: Name of a table, rows, and their values; None deletes the rows.
Part: TypeAlias = "tuple[str, NDArray[np.int64], NDArray[np.generic] | None]"

_BYTES = 4 << 20
_DELETED_ROWS = 4096


def split(table: str, rows: ArrayLike, values: ArrayLike | None) -> Iterator[Part]:
    """Yield the rows of a part in pieces.

    Raises
    ------
    TypeError, ValueError
        If the rows are no integers, or the values are not one for each row.
    """
    numbers = np.asarray(rows)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise TypeError(
            f"rows of {table!r}: expected (n,) integers, got {numbers.shape} {numbers.dtype}"
        )
    numbers = numbers.astype(np.int64)
    if values is None:
        for first in range(0, len(numbers), _DELETED_ROWS):
            yield table, numbers[first : first + _DELETED_ROWS], None
        return
    array = np.asarray(values)
    if isinstance(values, (list, tuple)):
        array = array.astype(np.float32)  # plain numbers have no type
    if array.ndim != 2 or len(array) != len(numbers):
        raise ValueError(
            f"values of {table!r}: expected shape ({len(numbers)}, n), got {array.shape}"
        )
    step = max(1, _BYTES // max(1, array.itemsize * array.shape[1]))
    for first in range(0, len(numbers), step):
        yield table, numbers[first : first + step], array[first : first + step]
