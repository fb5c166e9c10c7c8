"""The records of `bench.policies` as Markdown tables. A cell is a trace at a fast fraction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import mean
from typing import NamedTuple

from bench.policies.compared import BASELINES, CHECKS, LABELS, LEARNED, LRU, OPT
from bench.policies.measure import Record
from bench.scenery.tables import NONE, markdown, number
from tieralloc.tools.report import percent

Cell = tuple[str, float]

_ABOUT = """\
Learned policies are trained on the first half of each trace; figures count the second half, one
access at a time. A capacity is a share of the distinct rows of the trace."""


class Gain(NamedTuple):
    """On-demand fetches ÷ LRU's and ÷ the best baseline's; the share of the gap from LRU to OPT."""

    to_lru: float
    to_best: float
    gap_closed: float


class Grid:
    """Records by policy and cell, and derived figures."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = {(r["policy"], (r["trace"], r["fast_fraction"])): r for r in records}
        self.cells = sorted({cell for _, cell in self._records})
        self.labels = [label for label in LABELS if self.row(label)]

    def at(self, policy: str, cell: Cell) -> Record | None:
        """Return a record; None if it was not measured."""
        return self._records.get((policy, cell))

    def row(self, policy: str) -> list[Record]:
        """Return the records of a policy."""
        return [record for cell in self.cells if (record := self.at(policy, cell))]

    def best(self, cell: Cell, policies: Iterable[str] = BASELINES) -> Record | None:
        """Return the record with the lowest miss ratio."""
        records = [record for policy in policies if (record := self.at(policy, cell))]
        return min(records, key=lambda record: record["miss_ratio"], default=None)

    def gain(self, policy: str, cell: Cell) -> Gain | None:
        """Return the gain of a policy; None if it, LRU or OPT was not measured."""
        records = [self.at(policy, cell), self.at(LRU, cell), self.best(cell), self.at(OPT, cell)]
        own, lru, best, opt = (record["miss_ratio"] if record else None for record in records)
        if None in (own, lru, best, opt) or lru == opt:
            return None
        return Gain(own / lru, own / best, (lru - own) / (lru - opt))


def page(records: Sequence[Record]) -> str:
    """Return all tables."""
    grid = Grid(records)
    if not grid.cells:
        return "Nothing was measured."
    learned = [label for label in LEARNED if label in grid.labels]
    prefetching = [label for label in grid.labels if _prefetches(grid.row(label))]
    parts = [_ABOUT, "On-demand fetches ÷ lookups; in bold the fewest of a column, OPT apart:"]
    parts.append(_by_cell(grid, grid.labels, lambda label, cell: _miss_ratio(grid, label, cell)))
    if learned:
        parts += [
            "On-demand fetches ÷ LRU's, ÷ the best baseline's, and the share of the gap from LRU to"
            " OPT that is closed:",
            _by_cell(grid, ["best baseline", *learned], lambda *place: _gain(grid, *place)),
            "\n".join(_summary(grid, label) for label in learned),
        ]
    if prefetching:
        parts += ["Prefetched rows per lookup, and the share of them that was used:"]
        parts += [_by_cell(grid, prefetching, lambda *place: _prefetches([grid.at(*place)]))]
    parts += ["Cost; a replay of libcachesim has a call from Python per access:", _costs(grid)]
    return "\n\n".join(parts)


#: The ghost queue of s3fifo is not exact in larger tiers (eviction/ghost_queue.hpp).
_EXACT_ROWS = 1 << 15


def differences(records: Sequence[Record]) -> list[str]:
    """Return the differences between counts of a policy here and in libcachesim."""
    grid = Grid(records)
    lines = []
    for ours, theirs in CHECKS.items():
        for cell in grid.cells:
            both = [record for name in (ours, theirs) if (record := grid.at(name, cell))]
            counts = [record["on_demand_fetches"] for record in both]
            allowed = 1.01 if both and both[0]["fast_rows"] > _EXACT_ROWS else 1
            if counts and max(counts) > min(counts) * allowed:
                fetches = " and ".join(f"{count:,}" for count in counts)
                lines.append(f"{_name(cell)}: {ours} and {theirs} differ: {fetches} fetches")
    return lines


def _by_cell(grid: Grid, labels: Sequence[str], text: Callable[[str, Cell], str]) -> str:
    rows = ([label, *(text(label, cell) for cell in grid.cells)] for label in labels)
    return markdown(["policy", *map(_name, grid.cells)], rows)


def _miss_ratio(grid: Grid, label: str, cell: Cell) -> str:
    record = grid.at(label, cell)
    if record is None:
        return NONE
    fewest = grid.best(cell, [other for other in grid.labels if other != OPT])
    return f"**{record['miss_ratio']:.4f}**" if record is fewest else f"{record['miss_ratio']:.4f}"


def _gain(grid: Grid, label: str, cell: Cell) -> str:
    if label not in LABELS:
        best = grid.best(cell)
        return best["policy"] if best else NONE
    gain = grid.gain(label, cell)
    return f"{gain.to_lru:.3f}, {gain.to_best:.3f}, {gain.gap_closed:.1%}" if gain else NONE


def _summary(grid: Grid, label: str) -> str:
    gains = [gain for cell in grid.cells if (gain := grid.gain(label, cell))]
    if not gains:
        return f"- {label}: not comparable without LRU, OPT and a baseline"
    to_lru, to_best, gaps = zip(*gains, strict=True)
    return (
        f"- {label}: below the best baseline in {sum(ratio < 1 for ratio in to_best)} of"
        f" {len(gains)} cells; ÷ LRU mean {mean(to_lru):.3f}, worst {max(to_lru):.3f}; ÷ the best"
        f" baseline worst {max(to_best):.3f}; gap closed mean {mean(gaps):.1%}"
    )


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


def _name(cell: Cell) -> str:
    return f"{cell[0]} {percent(cell[1])}"
