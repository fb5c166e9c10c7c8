"""Parsers of command-line values; an invalid value is an error before any work."""

from __future__ import annotations

import argparse
import math
from typing import Literal

from tieralloc._common.numbers import parse_size


def policies(text: str) -> list[str]:
    """Return the names of policies, separated by commas."""
    return _parts(text, "policies such as lru,s3fifo")


def fast_fractions(text: str) -> list[float]:
    """Return fractions in (0, 1], separated by commas; ``5%`` is 0.05."""
    fractions = []
    for part in _parts(text, "fractions such as 0.01,0.05"):
        fraction = number(part.removesuffix("%")) / (100 if part.endswith("%") else 1)
        if not 0 < fraction <= 1:
            raise argparse.ArgumentTypeError(f"expected above 0, at most 1, got {part}")
        fractions.append(fraction)
    return fractions


def sizes(text: str) -> list[int]:
    """Return sizes in bytes, separated by commas: ``64MiB`` or ``1.5GB``."""
    return [size(part) for part in _parts(text, "sizes such as 64MiB,1GiB")]


def size(text: str) -> int:
    """Return a size in bytes."""
    try:
        return parse_size(text, "size")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("size: ")) from None


def rates(text: str) -> list[float] | Literal["auto"]:
    """Return numbers above 0, or "auto"."""
    if text == "auto":
        return "auto"
    return _positive([number(part) for part in _parts(text, "rates such as 500,1000, or auto")])


def share(text: str) -> float:
    """Return a fraction in [0, 1)."""
    value = number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 0, below 1, got {text}")
    return value


def number(text: str) -> float:
    """Return any finite number."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text!r}")
    return value


def nanoseconds(text: str) -> list[float]:
    """Return numbers above 0, each with or without the unit: ``150ns,400``."""
    parts = _parts(text, "times such as 150ns,400ns")
    return _positive([number(part.removesuffix("ns")) for part in parts])


def count(text: str) -> int:
    """Return an integer of at least 1; ``10_000`` and ``1e6`` are valid."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value


def whole(text: str) -> int:
    """Return an integer of at least 0."""
    value = number(text)
    if value < 0 or value != int(value) or value >= 1 << 63:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2**63 - 1, got {text!r}")
    return int(text) if text.isdecimal() else int(value)


def counts(text: str) -> int | list[int]:
    """Return one integer of at least 1, or several, separated by commas."""
    values = [count(part) for part in text.split(",")]
    return values[0] if len(values) == 1 else values


def numbers(text: str) -> float | list[float]:
    """Return one number, or several, separated by commas."""
    values = [number(part) for part in text.split(",")]
    return values[0] if len(values) == 1 else values


def batch_size(text: str) -> int | Literal["row"]:
    """Return a number of samples, or "row"."""
    return "row" if text == "row" else count(text)


def _parts(text: str, expected: str) -> list[str]:
    # Duplicates are dropped.
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return parts


def _positive(values: list[float]) -> list[float]:
    for value in values:
        if value <= 0:
            raise argparse.ArgumentTypeError(f"expected above 0, got {value:g}")
    return values
