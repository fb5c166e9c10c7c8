"""Results of scenarios: figures and their targets, as Markdown and as JSON.

The fields of the JSON keep their names, which kept results have: lines and findings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.scenery import tables
from bench.scenery.results import read_json, rounded, write_json
from bench.scenery.turns import Spread


@dataclass(frozen=True)
class Result:
    """A figure: a ratio of tieralloc's to a baseline's, or in the unit that it names."""

    what: str
    value: Spread | None = None  # None if not measured, with the reason in `note`
    min: float | None = None  # its target
    max: float | None = None  # or this
    unit: str = "x"
    figures: Mapping[str, float | str] = field(default_factory=dict)  # its inputs
    note: str = ""

    @property
    def target(self) -> str | None:
        if self.min is not None:
            return f"≥ {self.min:g}"
        return None if self.max is None else f"≤ {self.max:g}"

    @property
    def is_reached(self) -> bool | None:
        """Whether the target is reached; None without a target or a measurement."""
        if self.value is None or self.target is None:
            return None
        if self.min is not None:
            return self.value.median >= self.min
        return self.max is not None and self.value.median <= self.max

    def row(self) -> list[str]:
        """Return the cells of a table."""
        measured = "not measured"
        if self.value is not None:
            low, high = tables.number(self.value.low), tables.number(self.value.high)
            measured = f"{tables.number(self.value.median)} {self.unit} [{low} to {high}]"
        reached = {True: "yes", False: "NO", None: tables.NONE}[self.is_reached]
        return [self.what, measured, self.target or tables.NONE, reached]

    def details(self) -> str:
        """Return the figures and the note as text."""
        parts = [
            f"{name}: {value if isinstance(value, str) else tables.number(value)}"
            for name, value in self.figures.items()
        ]
        return " · ".join([*parts, *([self.note] if self.note else [])])

    def record(self) -> dict[str, Any]:
        """Return the fields of the JSON."""
        return {
            "what": self.what,
            "unit": self.unit,
            "value": self.value,
            "target": self.target,
            "reached": self.is_reached,
            **({"figures": self.figures} if self.figures else {}),
            **({"note": self.note} if self.note else {}),
        }


def markdown(results: Sequence[Result]) -> str:
    """Return a table of results, followed by the figures of each."""
    head = ["", "measured", "target", "reached"]
    details = [f"- {r.what}: {r.details()}" for r in results if r.details()]
    return "\n".join([tables.markdown(head, [r.row() for r in results]), "", *details])


def save(
    path: Path, number: int, title: str, results: Sequence[Result], about: dict[str, Any]
) -> None:
    """Save a scenario in a result file; others of the same settings and machine stay."""
    about = rounded(about)
    kept = read_json(path) or {}
    is_same = all(kept.get(key) == about[key] for key in ("settings", "machine"))
    lines = {line["line"]: line for line in kept["lines"]} if is_same else {}
    lines[number] = {"line": number, "title": title, "findings": [r.record() for r in results]}
    write_json(path, {**about, "lines": [lines[each] for each in sorted(lines)]})
