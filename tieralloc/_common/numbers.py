"""Integers and sizes in arguments."""

from __future__ import annotations

import operator
import re
from fractions import Fraction
from typing import SupportsIndex

__all__ = ["as_integer", "check_range", "format_size", "parse_memory", "parse_size"]

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS[f"{_letter}b"] = 1000**_power
    _UNITS[f"{_letter}ib"] = 1024**_power


def as_integer(name: str, value: SupportsIndex, expected: str = "int") -> int:
    """Return `value` as an int; TypeError for argument `name` if it is not an integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}") from None


def check_range(name: str, value: SupportsIndex, minimum: int, maximum: int) -> None:
    """Raise ValueError, or TypeError, unless `value` is an integer in this range."""
    number = as_integer(name, value)
    if not minimum <= number <= maximum:
        raise ValueError(f"{name}: expected {minimum} to {maximum}, got {number}")


def parse_size(size: str | SupportsIndex, name: str) -> int:
    """Return a size in bytes.

    Parameters
    ----------
    size : int or str
        Bytes, or a number with one of the units B, kB, MB, GB, TB (powers of 1000), KiB, MiB,
        GiB, TiB (powers of 1024), such as ``"64MiB"`` or ``"1.5 GB"``.
    name : str
        Name of the argument in errors.

    Raises
    ------
    ValueError
        For an invalid string, or a size below 1 byte.
    TypeError
        For another type than str or an integer.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", size.lower())
        if match is None or match[2] not in _UNITS:
            raise ValueError(
                f"{name}: expected bytes, or a size as '64MiB' or '1.5GB', got {size!r}"
            )
        value = int(Fraction(match[1]) * _UNITS[match[2]])  # a float would round
    else:
        value = as_integer(name, size, "int or str")
    if value <= 0:
        raise ValueError(f"{name}: expected at least 1 byte, got {size!r}")
    return value


def format_size(size: float) -> str:
    """Return bytes in a readable unit, such as ``"64.0 MiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(abs(size), 1) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def parse_memory(size: int | str, name: str) -> int:
    """Return a size in bytes as `parse_size` does; MemoryError if no machine has that much."""
    number = parse_size(size, name)
    if number >= 1 << 63:
        raise MemoryError(f"{name}: expected below 2**63 bytes, got {size!r}")
    return number
