"""Results of scenarios: figures beside their targets, as Markdown and as JSON.

The JSON keeps the names of its fields, which `tieralloc report` reads: lines and findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.scenery import tables
from bench.scenery.results import read_json, rounded, write_json
from bench.scenery.turns import Spread


@dataclass(frozen=True)
class Target:
    """A bound: a min such as ``≥ 1``, or a max such as ``≤ 1.2``."""

    sign: str
    bound: float

    def is_reached(self, value: float) -> bool:
        return value >= self.bound if self.sign == "≥" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


def at_least(bound: float) -> Target:
    return Target("≥", bound)


def at_most(bound: float) -> Target:
    return Target("≤", bound)


@dataclass(frozen=True)
class Result:
    """A figure: a ratio of tieralloc's to a baseline's, or in the unit that it names."""

    what: str
    value: Spread | None = None  # None where it was not measured: `note` says why
    target: Target | None = None
    unit: str = "x"
    figures: dict[str, float | str] = field(default_factory=dict)  # that it was made of
    note: str = ""

    @property
    def is_reached(self) -> bool | None:
        """Whether the target is reached; None without a target or a measurement."""
        if self.value is None or self.target is None:
            return None
        return self.target.is_reached(self.value.median)

    def row(self) -> list[str]:
        """Return the cells of a table."""
        measured = "not measured"
        if self.value is not None:
            low, high = tables.number(self.value.low), tables.number(self.value.high)
            measured = f"{tables.number(self.value.median)} {self.unit} [{low} to {high}]"
        reached = {True: "yes", False: "NO", None: tables.NONE}[self.is_reached]
        return [self.what, measured, str(self.target or tables.NONE), reached]

    def details(self) -> str:
        """Return the figures and the note in words."""
        parts = [
            f"{name}: {value if isinstance(value, str) else tables.number(value)}"
            for name, value in self.figures.items()
        ]
        return " · ".join([*parts, *([self.note] if self.note else [])])

    def record(self) -> dict[str, Any]:
        """Return the fields of the JSON."""
        fields = {
            "what": self.what,
            "unit": self.unit,
            "value": self.value,
            "target": self.target and str(self.target),
            "reached": self.is_reached,
            "figures": self.figures,
            "note": self.note,
        }
        return {key: value for key, value in fields.items() if value not in ("", {})}


def markdown(results: Sequence[Result]) -> str:
    """Lay out a table of results, and below it the figures that they are made of."""
    head = ["", "measured", "target", "reached"]
    details = [f"- {r.what}: {r.details()}" for r in results if r.details()]
    return "\n".join([tables.markdown(head, [r.row() for r in results]), "", *details])


def save(
    path: Path, number: int, title: str, results: Sequence[Result], about: dict[str, Any]
) -> None:
    """Put a scenario into a result file.

    Others in the file stay if they are of the same settings and machine.
    """
    about = rounded(about)
    kept = read_json(path)
    conditions = [(each["settings"], each["machine"]["machine"]) for each in (kept or about, about)]
    is_same = kept is not None and conditions[0] == conditions[1]
    lines = {line["line"]: line for line in kept["lines"]} if is_same else {}
    lines[number] = {"line": number, "title": title, "findings": [r.record() for r in results]}
    write_json(path, {**about, "lines": [lines[each] for each in sorted(lines)]})
