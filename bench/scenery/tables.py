"""Markdown tables, and figures in cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.scenery.turns import Spread

NONE = "-"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: first column left-aligned, the others, numbers, right-aligned.

    Columns are padded, so that a terminal shows them aligned as well.
    """
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    text = []
    for first, *numbers in (lines[0], rule, *lines[1:]):
        cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
        text.append(f"| {' | '.join((first.ljust(widths[0]), *cells))} |")
    return "\n".join(text)


def number(value: float | None) -> str:
    """Return three significant digits, with thousands separators; a dash for None."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value == 0 or abs(value) >= 100 else f"{value:.3g}"


def spread(value: Spread | None, digits: int = 2) -> str:
    """Return median and quartiles, such as ``0.97 [0.95, 0.98]``; a dash for None."""
    if value is None:
        return NONE
    median = f"{value.median:,.{digits}f}"
    return (
        f"{median} [{value.low:,.{digits}f}, {value.high:,.{digits}f}]"
        if value.count > 1
        else median
    )
