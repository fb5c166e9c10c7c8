"""What was found: a figure beside its target, as a table and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.peers.measure import Spread

_LINE = 110


@dataclass(frozen=True)
class Target:
    """A bound that a figure should keep."""

    bound: float
    is_floor: bool

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.is_floor else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.is_floor else '≤'} {self.bound:g}"


def at_least(bound: float) -> Target:
    return Target(bound, is_floor=True)


def at_most(bound: float) -> Target:
    return Target(bound, is_floor=False)


@dataclass(frozen=True)
class Finding:
    """A figure of one line: mostly a ratio of ours to theirs, else of the unit that it names."""

    what: str
    value: Spread | None = None  # None where it could not be measured: `note` says why
    target: Target | None = None
    unit: str = "x"
    figures: dict[str, float | str] = field(default_factory=dict)  # that it was made from
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """None where there is nothing to reach, or nothing was measured."""
        if self.value is None or self.target is None:
            return None
        return self.target.reached(self.value.median)


@dataclass(frozen=True)
class Line:
    """A line of what is to be reached, and what was found."""

    number: int
    title: str
    findings: list[Finding]


def table(lines: Sequence[Line]) -> str:
    """A readable table of all lines."""
    out = []
    for line in lines:
        out.append(f"\n{line.number}. {line.title}")
        cells = [("", "measured", "target", "reached")]
        cells += [_cells(finding) for finding in line.findings]
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        for row, finding in zip(cells, [None, *line.findings], strict=True):
            text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            out.append(f"   {text}".rstrip())
            out += [f"      {detail}" for detail in _details(finding)]
    return "\n".join(out)


def _cells(finding: Finding) -> tuple[str, str, str, str]:
    value, verdict = finding.value, {True: "yes", False: "NO", None: "-"}[finding.reached]
    measured = "not measured"
    if value is not None:
        spread = f" [{number(value.low)} to {number(value.high)}]" if value.count > 1 else ""
        measured = f"{number(value.median)} {finding.unit}{spread}"
    return finding.what, measured, str(finding.target or "-"), verdict


def _details(finding: Finding | None) -> Iterable[str]:
    if finding is None:
        return
    texts = {name: text for name, text in finding.figures.items() if isinstance(text, str)}
    numbers = [
        f"{name}: {number(value)}"
        for name, value in finding.figures.items()
        if not isinstance(value, str)
    ]
    yield from textwrap.wrap(" · ".join(numbers), _LINE, break_on_hyphens=False)
    for name, text in texts.items():
        yield f"{name}: {text}"
    if finding.note:
        yield finding.note


def number(value: float) -> str:
    """Three digits that matter, thousands set apart."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write_json(path: Path, lines: Sequence[Line], about: dict[str, Any]) -> None:
    """Write lines and what they were measured on; figures to four digits, to keep it small.

    Lines that are in the file already stay, if they were measured with the same settings on the
    same machine and are not measured anew.
    """
    records = [
        {
            "line": line.number,
            "title": line.title,
            "findings": [_record(finding) for finding in line.findings],
        }
        for line in lines
    ]
    measured = {line.number for line in lines}
    kept = [line for line in _lines_in(path, about) if line["line"] not in measured]
    content = {**about, "lines": sorted([*records, *kept], key=lambda line: int(line["line"]))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _lines_in(path: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    alike = all(content.get(key) == about.get(key) for key in ("settings", "quick"))
    machines = {each.get("machine", {}).get("machine") for each in (content, about)}
    return list(content["lines"]) if alike and len(machines) == 1 else []


def _record(finding: Finding) -> dict[str, Any]:
    value = finding.value
    return {
        "what": finding.what,
        "unit": finding.unit,
        "value": value and {name: _rounded(part) for name, part in asdict(value).items()},
        "target": finding.target and str(finding.target),
        "reached": finding.reached,
        "figures": {name: _rounded(figure) for name, figure in finding.figures.items()},
        **({"note": finding.note} if finding.note else {}),
    }


def _rounded(value: float | str) -> float | str:
    return float(f"{value:.4g}") if isinstance(value, float) else value
