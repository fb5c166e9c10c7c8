"""What the paper claims, and what records say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Record = dict[str, Any]

RECMG = "recmg"

_NOTHING_GAINED = 0.98  # of LRU's fetches


@dataclass(frozen=True)
class Claim:
    """That recmg leaves so many times fewer on-demand fetches than a prefetcher over LRU."""

    prefetching: str
    title: str
    ratio: float


#: RecMG, HPCA 2025.
CLAIMS = (
    Claim("domino", "Domino (temporal)", 2.2),
    Claim("bingo", "Bingo (spatial)", 2.8),
    Claim("transfetch", "TransFetch (learned)", 1.5),
)


class Grid:
    """Records by cell: a trace at a fast fraction, in the order in which they come.

    Records of fetches that take time are left out.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = {
            (r["trace"], r["fast_fraction"], r["policy"]): r
            for r in records
            if r["prefetch_lag"] == 0
        }
        traces = dict.fromkeys(trace for trace, _, _ in self._records)
        self.cells = [
            (trace, fraction)
            for trace in traces
            for fraction in sorted({f for t, f, _ in self._records if t == trace})
        ]

    def of(self, cell: tuple[str, float], policy: str) -> Record:
        """Return a record."""
        return self._records[(*cell, policy)]

    def fetches(self, cell: tuple[str, float], policy: str) -> int:
        """Return the on-demand fetches of a policy."""
        fetches: int = self.of(cell, policy)["on_demand_fetches"]
        return fetches

    def ratios(self, policy: str, beside: str = RECMG) -> list[float]:
        """Return a policy's on-demand fetches ÷ those of another, cell by cell."""
        return [self.fetches(cell, policy) / self.fetches(cell, beside) for cell in self.cells]

    def bounds(self, policy: str) -> list[float]:
        """Return what those ratios would be were nothing missed but rows never seen before."""
        return [
            self.fetches(cell, policy) / max(self.of(cell, policy)["first_accesses"], 1)
            for cell in self.cells
        ]


def verdict(claim: Claim, grid: Grid) -> str:
    """Say in a few sentences whether a claim holds here, and if not, what is known of why."""
    baseline = f"lru+{claim.prefetching}"
    ratios = grid.ratios(baseline)
    found, cells = median(ratios), len(ratios)
    reached = sum(ratio >= claim.ratio for ratio in ratios)
    text = f"**{claim.title}**: {found:.2f} in the median cell, where the paper has {claim.ratio}"
    if found >= claim.ratio:
        return f"{text}: reached, in {reached} of {cells} cells."
    theirs, ours = median(grid.ratios(baseline, "lru")), median(grid.ratios(RECMG, "lru"))
    text += (
        f": not reached ({reached} of {cells} cells). Tuned on each cell, the baseline leaves"
        f" {theirs:.2f} of LRU's fetches in the median cell, and recmg {ours:.2f}, where"
        f" {theirs / claim.ratio:.2f} would do."
    )
    if theirs >= _NOTHING_GAINED:
        text += (
            " The baseline gains next to nothing: the whole ratio has to be recmg's gain on LRU."
        )
    beyond = sum(bound < claim.ratio for bound in grid.bounds(baseline))
    if beyond:
        text += (
            f" In {beyond} of {cells} cells nobody could reach it who fetches rows seen before: so"
            " many of the fetches left are of rows never accessed until then."
        )
    return text
