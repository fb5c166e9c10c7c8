"""The claims of the paper, and the corresponding ratios of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Record = dict[str, Any]
Cell = tuple[str, float]

RECMG = "recmg"


@dataclass(frozen=True)
class Claim:
    """A claimed ratio: on-demand fetches of a prefetcher with LRU over those of recmg."""

    policy: str
    title: str
    ratio: float


#: RecMG, HPCA 2025.
CLAIMS = (
    Claim("lru+domino", "Domino (temporal)", 2.2),
    Claim("lru+bingo", "Bingo (spatial)", 2.8),
    Claim("lru+transfetch", "TransFetch (learned)", 1.5),
)


class Grid:
    """Records of `measure` by cell, a trace at a fast fraction; without delayed prefetches."""

    def __init__(self, records: Sequence[Record], facts: Mapping[str, Mapping[str, Any]]) -> None:
        shown = [record for record in records if "prefetch_lag" not in record]
        self._records = {(r["trace"], r["fast_fraction"], r["policy"]): r for r in shown}
        self._facts = facts
        self.cells = list(dict.fromkeys((r["trace"], r["fast_fraction"]) for r in shown))
        self.policies = list(dict.fromkeys(record["policy"] for record in shown))

    def at(self, cell: Cell, policy: str) -> Record:
        """Return a record."""
        return self._records[(*cell, policy)]

    def fetches(self, cell: Cell, policy: str) -> int:
        """Return on-demand fetches."""
        fetches: int = self.at(cell, policy)["on_demand_fetches"]
        return fetches

    def ratios(self, policy: str, other: str = RECMG) -> list[float]:
        """Return on-demand fetches ÷ those of another policy, cell by cell."""
        return [self.fetches(cell, policy) / self.fetches(cell, other) for cell in self.cells]

    def bounds(self, policy: str) -> list[float]:
        """Return the ratios to a policy that misses only the first access of each row."""
        return [
            self.fetches(cell, policy) / max(self._facts[cell[0]]["first_accesses"], 1)
            for cell in self.cells
        ]


def verdict(claim: Claim, grid: Grid) -> list[str]:
    """Return the row of a claim: the paper's ratio, the measured ratio and the bound."""
    ratios, bounds = grid.ratios(claim.policy), grid.bounds(claim.policy)
    return [
        claim.title,
        str(claim.ratio),
        mark(median(ratios), claim.ratio),
        f"{sum(ratio >= claim.ratio for ratio in ratios)} of {len(ratios)}",
        f"{median(grid.ratios(claim.policy, 'lru')):.2f}",
        f"{median(grid.ratios(RECMG, 'lru')):.2f}",
        f"{sum(bound < claim.ratio for bound in bounds)} of {len(bounds)}",
    ]


def mark(ratio: float, wanted: float | None) -> str:
    """Return a ratio, with ✓ if it reaches the target."""
    return f"{ratio:.2f} ✓" if wanted is not None and ratio >= wanted else f"{ratio:.2f}"
