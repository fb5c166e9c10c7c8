"""Rows as arrays: the types that tables accept, and their conversion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from tieralloc._common.numbers import check_range

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "DECODED",
    "QUANTISED",
    "as_parts",
    "as_values",
    "check_choice",
    "row_format",
]

#: The dtypes of rows that are quantised.
QUANTISED = ("int8", "int4")
_FLOAT8 = tuple(
    f"float8_e4m3_{scale}_{block}" for scale in ("ue8m0", "float32") for block in (32, 64, 128)
)
#: The dtypes of rows that lookups decode, to float32 by default; their bytes are the `raw` rows.
DECODED = (*QUANTISED, *_FLOAT8)

#: The types of plain numbers, where it is not the dtype.
_PLAIN = {"bfloat16": "float32", "int8": "float32", "int4": "float32", "bytes": "uint8"}
_PART_BYTES = 16 << 20


def as_values(dtype: str, values: ArrayLike) -> ArrayLike:
    """Return rows as the core takes them from a table of this dtype."""
    if isinstance(values, (list, tuple)):  # plain numbers have no dtype
        plain = "uint8" if dtype in _FLOAT8 else _PLAIN.get(dtype, dtype)
        values = np.asarray(values, dtype=plain)
    if dtype not in _PLAIN:
        return values
    array = np.asarray(values)
    if dtype in QUANTISED and array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    rounds = dtype == "bfloat16" and array.dtype == np.float32
    return _round_to_bfloat16(array) if rounds else array


def as_parts(
    dtype: str, embedding_dim: int, rows: ArrayLike | Iterable[ArrayLike]
) -> Iterator[ArrayLike]:
    """Yield the values to load, those that need a conversion some MiB at a time."""
    for values in _as_arrays(rows):
        yield from _as_parts(dtype, embedding_dim, values)


def _as_parts(dtype: str, embedding_dim: int, values: ArrayLike) -> Iterator[ArrayLike]:
    kind = getattr(values, "dtype", None)
    if dtype not in QUANTISED or kind not in (np.float16, np.float64):
        yield as_values(dtype, values)
        return
    array = np.asarray(values)
    step = max(1, _PART_BYTES // (4 * embedding_dim))
    for first in range(0, max(1, len(array)), step):
        yield as_values(dtype, array[first : first + step])


def _as_arrays(rows: ArrayLike | Iterable[ArrayLike]) -> Iterable[ArrayLike]:
    if hasattr(rows, "__array__") or isinstance(rows, memoryview):
        return [cast("ArrayLike", rows)]
    if not isinstance(rows, Iterable):
        kind = type(rows).__name__
        raise TypeError(f"rows: expected an array or an iterable of arrays, got {kind}")
    return rows


def _round_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def row_format(
    dtype: DTypeLike | str, embedding_dim: int | None, row_bytes: int | None, max_size: int
) -> tuple[str, int]:
    """Return the core's name of a type of NumPy or torch, and the elements or bytes of a row."""
    kind = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    kind = kind.removeprefix("torch.")
    (name, size), (other, unused) = ("embedding_dim", embedding_dim), ("row_bytes", row_bytes)
    if kind == "bytes":
        name, size, other, unused = other, unused, name, size
    if size is None or unused is not None:
        raise ValueError(
            f"{name}, {other}: rows of {kind} have the first and not the second, got {size} and "
            f"{unused}"
        )
    check_range(name, size, 1, max_size)
    return kind, size
