"""The records that were measured: kept, and asked for what the tables say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.policies.contenders import CHECKS, KNOWN, LABELS, LRU, OPT
from tieralloc._common.files import replacing

Record = dict[str, Any]


class Range(NamedTuple):
    """What several seeds came to."""

    median: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        return cls(median(values), min(values), max(values), len(values))


class Results:
    """The records of one trace.

    A cell is a policy at a fast fraction; it has a record for each seed. Asked for a cell that was
    not measured, or that is made from one that was not, methods return None.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.trace: str = records[0]["trace"]
        self.fractions: list[float] = sorted({record["fast_fraction"] for record in records})
        self.records = list(records)
        self._cells: dict[tuple[str, float], list[Record]] = {}
        for record in records:
            self._cells.setdefault((record["policy"], record["fast_fraction"]), []).append(record)

    def of(self, policy: str, fraction: float | None = None) -> list[Record]:
        """Return the records of a cell, or of a policy."""
        fractions = self.fractions if fraction is None else [fraction]
        return [record for at in fractions for record in self._cells.get((policy, at), [])]

    def range(self, policy: str, fraction: float, figure: str = "miss_ratio") -> Range | None:
        """Return a figure of a cell."""
        values = [record[figure] for record in self.of(policy, fraction)]
        return Range.of(values) if values else None

    def miss_ratio(self, policy: str, fraction: float) -> float | None:
        """Return the median miss ratio of a cell."""
        found = self.range(policy, fraction)
        return None if found is None else found.median

    def to_lru(self, policy: str, fraction: float) -> float | None:
        """On-demand fetches ÷ LRU's."""
        return _ratio(self.miss_ratio(policy, fraction), self.miss_ratio(LRU, fraction))

    def to_best_known(self, policy: str, fraction: float) -> float | None:
        """On-demand fetches ÷ those of the best known policy."""
        best = self.best_known(fraction)
        return _ratio(self.miss_ratio(policy, fraction), self.miss_ratio(best or LRU, fraction))

    def gap_closed(self, policy: str, fraction: float) -> float | None:
        """Share of the gap from LRU to OPT: 0 at LRU's miss ratio, 1 at OPT's."""
        lru, opt = self.miss_ratio(LRU, fraction), self.miss_ratio(OPT, fraction)
        own = self.miss_ratio(policy, fraction)
        if own is None or lru is None or opt is None or lru == opt:
            return None
        return (lru - own) / (lru - opt)

    def best_known(self, fraction: float) -> str | None:
        """Name the known policy with the fewest on-demand fetches."""
        measured = {label: self.miss_ratio(label, fraction) for label in KNOWN}
        ratios = {label: ratio for label, ratio in measured.items() if ratio is not None}
        return min(ratios, key=lambda label: ratios[label]) if ratios else None

    def differences(self, policy: str) -> dict[float, int] | None:
        """By how many on-demand fetches, at each capacity, the policy differs from its check."""
        checked = {
            fraction: (self.of(policy, fraction), self.of(CHECKS[policy], fraction))
            for fraction in self.fractions
        }
        if not all(own and theirs for own, theirs in checked.values()):
            return None
        return {
            fraction: own[0]["on_demand_fetches"] - theirs[0]["on_demand_fetches"]
            for fraction, (own, theirs) in checked.items()
        }


def by_trace(records: Iterable[Record]) -> list[Results]:
    """Sort records into traces, in the order in which these come."""
    traces: dict[str, list[Record]] = {}
    for record in records:
        traces.setdefault(record["trace"], []).append(record)
    return [Results(of_trace) for of_trace in traces.values()]


def mean(
    cell: Callable[[str, float], float | None], policy: str, fractions: Sequence[float]
) -> float | None:
    """Average what a method of `Results` says of a policy; None where a cell is lacking."""
    values = [cell(policy, fraction) for fraction in fractions]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def merge(kept: Iterable[Record], measured: Iterable[Record]) -> list[Record]:
    """Replace what was measured anew, and put all in the order of the tables.

    A trace that has changed since, or was measured at other capacities, keeps nothing.
    """
    measured = list(measured)
    anew = {(record["trace"], record["policy"]) for record in measured}
    alike = {record["trace"]: _setting(record) for record in measured}
    fractions = {record["fast_fraction"] for record in measured}
    still = [
        record
        for record in kept
        if (record["trace"], record["policy"]) not in anew
        and record["policy"] in LABELS
        and alike.get(record["trace"], _setting(record)) == _setting(record)
        and record["fast_fraction"] in fractions
    ]
    return sorted(
        [*still, *measured],
        key=lambda record: (
            record["trace"],
            LABELS.index(record["policy"]),
            record["seed"] or 0,
            record["fast_fraction"],
        ),
    )


def read_json(path: Path) -> list[Record]:
    """Read records; none where there is no file."""
    return json.loads(path.read_text()) if path.exists() else []


def write_json(records: Sequence[Record], path: Path) -> None:
    """Write records, a line each: so a change of one is one line's change."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    with replacing(path) as file:
        file.write(f"[\n{lines}\n]\n".encode())


def _setting(record: Record) -> tuple[str, int]:
    return record["trace_sha256"], record["trace_lookups"]


def _ratio(value: float | None, unit: float | None) -> float | None:
    return value / unit if value is not None and unit else None
