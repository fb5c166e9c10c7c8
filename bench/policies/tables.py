"""The records of `bench.policies` as Markdown tables.

A cell is a trace at a fast fraction. Every figure made of a cell that was not measured is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import mean

from bench.policies.compared import BASELINES, CHECKS, LABELS, LEARNED, LRU, OPT
from bench.policies.measure import Record
from bench.scenery.tables import NONE, markdown, number
from tieralloc.report import percent

Cell = tuple[str, float]

_ABOUT = """\
Learned policies are trained on the first half of each trace; figures count the second half, one
access at a time. A capacity is a share of the distinct rows of the trace."""


class Grid:
    """Records by policy and cell."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.cells = sorted({(record["trace"], record["fast_fraction"]) for record in records})
        self._records = {(r["policy"], (r["trace"], r["fast_fraction"])): r for r in records}
        self.labels = [label for label in LABELS if any(self.row(label))]

    def at(self, policy: str, cell: Cell) -> Record | None:
        """Return a record."""
        return self._records.get((policy, cell))

    def row(self, policy: str) -> list[Record]:
        """Return the records of a policy."""
        return [record for cell in self.cells if (record := self.at(policy, cell))]

    def miss_ratio(self, policy: str, cell: Cell) -> float | None:
        """Return on-demand fetches ÷ lookups."""
        record = self.at(policy, cell)
        return None if record is None else record["miss_ratio"]

    def best(self, cell: Cell, policies: Iterable[str] = BASELINES) -> str | None:
        """Return the policy with the lowest miss ratio, of those measured."""
        records = [record for policy in policies if (record := self.at(policy, cell))]
        return min(records, key=lambda r: r["miss_ratio"])["policy"] if records else None

    def to_lru(self, policy: str, cell: Cell) -> float | None:
        """Return on-demand fetches ÷ those of LRU."""
        return _ratio(self.miss_ratio(policy, cell), self.miss_ratio(LRU, cell))

    def to_best(self, policy: str, cell: Cell) -> float | None:
        """Return on-demand fetches ÷ those of the best baseline."""
        best = self.best(cell)
        return best and _ratio(self.miss_ratio(policy, cell), self.miss_ratio(best, cell))

    def gap_closed(self, policy: str, cell: Cell) -> float | None:
        """Return the share of the gap from LRU to OPT: 0 at the miss ratio of LRU, 1 at OPT's."""
        ratios = [self.miss_ratio(name, cell) for name in (policy, LRU, OPT)]
        if None in ratios:
            return None
        own, lru, opt = ratios
        return _ratio(lru - own, lru - opt)


def page(records: Sequence[Record]) -> str:
    """Lay out all tables."""
    grid = Grid(records)
    if not grid.cells:
        return "Nothing was measured."
    parts = [_ABOUT, "On-demand fetches ÷ lookups; in bold the fewest of a column, OPT apart:"]
    parts.append(_by_cell(grid, grid.labels, lambda label, cell: _miss_ratio(grid, label, cell)))
    if learned := [label for label in LEARNED if label in grid.labels]:
        parts += ["Learned policies beside the best baseline of each cell; ✓: fewer fetches:"]
        parts += [_gains(grid, learned)]
    if ahead := [label for label in grid.labels if _prefetches(grid.row(label))]:
        parts += ["Prefetched rows per lookup, and the share of them that was used:"]
        parts += [_by_cell(grid, ahead, lambda label, cell: _prefetches([grid.at(label, cell)]))]
    parts += ["Cost; a replay of libcachesim has a call from Python per access:", _costs(grid)]
    return "\n\n".join(parts)


def differences(records: Sequence[Record]) -> list[str]:
    """Return where a policy of ours counts other fetches than the same one of libcachesim."""
    grid = Grid(records)
    lines = []
    for ours, theirs in CHECKS.items():
        for cell in grid.cells:
            both = [record for name in (ours, theirs) if (record := grid.at(name, cell))]
            if len({record["on_demand_fetches"] for record in both}) > 1:
                fetches = " and ".join(f"{record['on_demand_fetches']:,}" for record in both)
                lines.append(f"{_name(cell)}: {ours} and {theirs} differ: {fetches} fetches")
    return lines


def _by_cell(grid: Grid, labels: Sequence[str], text: Callable[[str, Cell], str]) -> str:
    rows = ([label, *(text(label, cell) for cell in grid.cells)] for label in labels)
    return markdown(["policy", *map(_name, grid.cells)], rows)


def _miss_ratio(grid: Grid, label: str, cell: Cell) -> str:
    ratio = grid.miss_ratio(label, cell)
    if ratio is None:
        return NONE
    others = [other for other in grid.labels if other != OPT]
    return f"**{ratio:.4f}**" if label == grid.best(cell, others) else f"{ratio:.4f}"


def _gains(grid: Grid, learned: Sequence[str]) -> str:
    """Lay out three rows a policy, with the mean and the worst cell."""
    rows = [["best baseline", *(grid.best(cell) or NONE for cell in grid.cells), "", ""]]
    for label in learned:
        for what, figure in (("LRU", grid.to_lru), ("best baseline", grid.to_best)):
            ratios = [figure(label, cell) for cell in grid.cells]
            texts = [_ticked(ratio, figure == grid.to_best) for ratio in ratios]
            known = [ratio for ratio in ratios if ratio is not None]
            summary = [_ticked(of(known) if known else None) for of in (mean, max)]
            rows.append([f"{label} ÷ {what}", *texts, *summary])
        gaps = [grid.gap_closed(label, cell) for cell in grid.cells]
        known = [gap for gap in gaps if gap is not None]
        gaps += [of(known) if known else None for of in (mean, min)]
        texts = [NONE if gap is None else f"{gap:.1%}" for gap in gaps]
        rows.append([f"{label}, gap from LRU to OPT closed", *texts])
    return markdown(["", *map(_name, grid.cells), "mean", "worst"], rows)


def _prefetches(records: Sequence[Record | None]) -> str:
    issued, useful, lookups = (
        sum(record.get(name, 0) for record in records if record)
        for name in ("prefetches_issued", "prefetches_useful", "lookups")
    )
    return f"{issued / lookups:.3f}, {useful / issued:.1%}" if issued else ""


def _costs(grid: Grid) -> str:
    traces = list(dict.fromkeys(trace for trace, _ in grid.cells))
    rows = []
    for label in grid.labels:
        row = [label]
        for trace in traces:
            records = [record for record in grid.row(label) if record["trace"] == trace]
            row.append(number(mean(r["cpu_us_per_access"] for r in records) if records else None))
            row.append(number(records[0].get("training_cpu_seconds") if records else None))
        rows.append(row)
    heads = [f"{trace}, {what}" for trace in traces for what in ("CPU µs a lookup", "training, s")]
    return markdown(["policy", *heads], rows)


def _ticked(ratio: float | None, ticks: bool = False) -> str:
    if ratio is None:
        return NONE
    return f"{ratio:.3f} ✓" if ticks and ratio < 1 else f"{ratio:.3f}"


def _name(cell: Cell) -> str:
    trace, fraction = cell
    return f"{trace} {percent(fraction)}"


def _ratio(value: float | None, unit: float | None) -> float | None:
    return value / unit if value is not None and unit else None
