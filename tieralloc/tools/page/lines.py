"""Findings beside their targets as sections of a page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tieralloc.tools.page.html import (
    NOTHING,
    Cell,
    Markup,
    Part,
    bars,
    details,
    grid,
    paragraph,
    table,
)
from tieralloc.tools.page.results import number

_COLOURS = {True: 2, False: 1, None: 6}
_VERDICTS = {True: "yes", False: "no", None: ""}


def sections_of(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    """Make a section for each line: its title, and markup."""
    return [(_title(line), _section(line["findings"])) for line in lines]


def _title(line: Mapping[str, Any]) -> str:
    return f"{line['line']}. {line['title']}" if "line" in line else str(line["title"])


def _section(findings: Sequence[Mapping[str, Any]]) -> Markup:
    if not findings:
        return paragraph("Nothing was measured here.")
    rows: list[list[Cell | str]] = []
    for finding in findings:
        reached = _verdict(finding)
        rows.append(
            [
                Cell(finding["what"], _note(finding)),
                Cell(_measured(finding), _spread(finding)),
                str(finding.get("target") or NOTHING),
                Cell(_VERDICTS[reached], good=reached),
            ]
        )
    parts = [table(["", "measured", "target", "reached"], rows), _ratios(findings)]
    parts.append(details("What it was made from", [_figures(findings)]))
    return "\n".join(part for part in parts if part)


def _ratios(findings: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw the ratios, a mark where the target is."""
    shown = [
        (finding, value)
        for finding in findings
        if finding["unit"] == "x" and (value := number(finding, "value", "median")) is not None
    ]
    longest = max((value for _, value in shown), default=0)
    if len(shown) < 2 or longest <= 0:
        return ""
    rows = [
        (
            finding["what"],
            [Part(_measured(finding), value / longest, _COLOURS[_verdict(finding)])],
            f"{_digits(value)} x",
        )
        for finding, value in shown
    ]
    marks = [_bound(finding, longest) for finding, _ in shown]
    return grid([bars(rows, "Ratios; a mark is where the target is", marks)])


def _bound(finding: Mapping[str, Any], longest: float) -> float | None:
    found = re.fullmatch(r"[≥≤] ([0-9]+(?:[.][0-9]+)?)", str(finding.get("target")))
    return None if found is None else float(found[1]) / longest


def _verdict(finding: Mapping[str, Any]) -> bool | None:
    reached = finding.get("reached")
    return reached if isinstance(reached, bool) else None


def _measured(finding: Mapping[str, Any]) -> str:
    value = number(finding, "value", "median")
    return "not measured" if value is None else f"{_digits(value)} {finding['unit']}"


def _spread(finding: Mapping[str, Any]) -> str:
    low, high, count = (number(finding, "value", key) for key in ("low", "high", "count"))
    if low is None or high is None or (count is not None and count < 2):
        return ""
    return f"{_digits(low)} to {_digits(high)}"


def _note(finding: Mapping[str, Any]) -> str:
    note = finding.get("note")
    return note if isinstance(note, str) else ""


def _figures(findings: Sequence[Mapping[str, Any]]) -> Markup:
    rows: list[list[Cell | str]] = []
    for finding in findings:
        figures = finding.get("figures")
        if isinstance(figures, Mapping):
            for name, value in figures.items():
                known = number(figures, name)
                words = _digits(known) if known is not None else str(value)
                rows.append([finding["what"], name, words])
    return table(["", "figure", "value"], rows, texts=(1, 2))


def _digits(value: float) -> str:
    """Three digits that matter, thousands set apart."""
    return f"{value:,.0f}" if value == 0 or abs(value) >= 100 else f"{value:.3g}"
