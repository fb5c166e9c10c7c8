"""Values of command-line options, checked so that a mistake is told before any work begins."""

from __future__ import annotations

import argparse
import math
from typing import Literal


def policies(text: str) -> list[str]:
    """Names of eviction policies, separated by commas."""
    return _parts(text, "policies such as lru,s3fifo")


def fast_fractions(text: str) -> list[float]:
    """Fractions in (0, 1], separated by commas; ``5%`` is 0.05."""
    found = []
    for part in _parts(text, "fractions such as 0.01,0.05"):
        fraction = _number(part.removesuffix("%")) / (100 if part.endswith("%") else 1)
        if not 0 < fraction <= 1:
            raise argparse.ArgumentTypeError(f"{part} is out of range, expected above 0, at most 1")
        found.append(fraction)
    return found


def rates(text: str) -> list[float] | Literal["auto"]:
    """Return numbers above 0, or "auto"."""
    if text == "auto":
        return "auto"
    found = [_number(part) for part in _parts(text, "rates such as 500,1000, or auto")]
    for value in found:
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{value:g} is out of range, expected above 0")
    return found


def share(text: str) -> float:
    """Return a fraction in [0, 1)."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range, expected at least 0, below 1")
    return value


def number(text: str) -> float:
    """Return any finite number."""
    return _number(text)


def nanoseconds(text: str) -> list[float]:
    """Return numbers above 0, each with or without the unit: ``150ns,400``."""
    found = [_number(part.removesuffix("ns")) for part in _parts(text, "times such as 150ns,400ns")]
    for value in found:
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{value:g} is out of range, expected above 0")
    return found


def count(text: str) -> int:
    """Return an integer of at least 1; ``10_000`` and ``1e6`` are integers too."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range, expected at least 1")
    return value


def whole(text: str) -> int:
    """Return an integer of at least 0."""
    value = _number(text)
    if value < 0 or value != int(value) or value >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 2**63 - 1")
    return int(text) if text.isdecimal() else int(value)


def counts(text: str) -> int | list[int]:
    """Return one integer of at least 1, or several, separated by commas."""
    found = [count(part) for part in text.split(",")]
    return found[0] if len(found) == 1 else found


def numbers(text: str) -> float | list[float]:
    """Return one number, or several, separated by commas."""
    found = [_number(part) for part in text.split(",")]
    return found[0] if len(found) == 1 else found


def batch_size(text: str) -> int | Literal["row"]:
    """Return a number of samples, or "row"."""
    return "row" if text == "row" else count(text)


def _parts(text: str, expected: str) -> list[str]:
    # Each once, however often it is named.
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing, expected {expected}")
    return parts


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return value
