"""The header of a .npy file: magic, version, length, and a Python literal (NumPy's format)."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc.checkpoint.tensor import Tensor

if TYPE_CHECKING:
    from tieralloc.checkpoint.tensor import SourceFile

__all__ = ["read_npy"]

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 1 << 16
_MAX_INTEGER = (1 << 63) - 1
_DESCRIPTOR = re.compile(r"[<|]([biufcVSU?])(\d{1,7})")
_KINDS = {"f8": "float64", "f4": "float32", "f2": "float16"}


def read_npy(source: SourceFile) -> Tensor:
    """Return the array of a file.

    Raises
    ------
    ValueError
        If it is not such a file, is truncated, or its array is not in C order, or not of plain
        little-endian elements.
    """
    try:
        return _array_of(source)
    except ValueError as error:
        raise ValueError(f"{source.path}: not a .npy file of plain rows: {error}") from None


def _array_of(source: SourceFile) -> Tensor:
    start = source.file.read(8)
    if start[:6] != _MAGIC or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError(f"expected {_MAGIC!r} and version 1 to 3, got {start!r}")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(source.file.read(width), "little")
    begin = len(start) + width + length
    if length > _MAX_HEADER_BYTES or begin > source.size:
        limit = min(_MAX_HEADER_BYTES, source.size)
        raise ValueError(f"header: expected at most {limit} bytes, got {length}")
    shape, order, name, bits = _parse(source.file.read(length))
    if order:
        raise ValueError("expected an array in C order, got Fortran order")
    size = bits // 8
    for number in shape:
        size *= number
        if size > _MAX_INTEGER:
            raise ValueError(f"its shape overflows: {shape}")
    if begin + size > source.size:
        raise ValueError(f"truncated; expected {begin + size} bytes, got {source.size}")
    return Tensor(shape, name, _KINDS.get(name[1:], "bytes"), bits, begin)


def _parse(header: bytes) -> tuple[tuple[int, ...], bool, str, int]:
    """Return shape, order, descriptor and bits per element."""
    line = header.decode("utf-8").removesuffix("\n").rstrip(" ")
    try:
        entries: Any = ast.literal_eval(line) if "\n" not in line else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"header: {error}") from None
    if not isinstance(entries, dict) or set(entries) != {"descr", "fortran_order", "shape"}:
        raise ValueError("header: expected descr, fortran_order and shape")
    name, order, shape = entries["descr"], entries["fortran_order"], entries["shape"]
    match = _DESCRIPTOR.fullmatch(name) if isinstance(name, str) else None
    if match is None or not isinstance(order, bool) or not isinstance(shape, tuple):
        raise ValueError(f"header: expected little-endian elements in a shape, got {entries}")
    if not all(type(number) is int and 0 <= number <= _MAX_INTEGER for number in shape):
        raise ValueError(f"header: expected a shape of integers, got {shape}")
    try:
        bits = 8 * np.dtype(name).itemsize
    except (TypeError, ValueError) as error:
        raise ValueError(f"header: {error}") from None
    if bits == 0:
        raise ValueError(f"header: expected elements of one byte or more, got {name!r}")
    return shape, order, name, bits
