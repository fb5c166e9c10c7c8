"""Baselines that learn during the replay: next-row, co-occurrence, Domino and Bingo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tieralloc.policies.baselines._native import Bingo, CoOccurrence, Domino, NextRow
from tieralloc.policies.baselines.baseline import Outcome, Settings, Tier, replay
from tieralloc.policies.baselines.scene import ORDERS

if TYPE_CHECKING:
    from tieralloc.policies.baselines._native import RowPrefetcher
    from tieralloc.policies.baselines.scene import Scene

#: Misses in Domino's history per row of its index, as in its paper.
_MISSES_PER_ROW = 8

#: Above 1: Bingo uses no short events.
_NO_VOTES = 2.0


@dataclass(frozen=True)
class TableBaseline:
    """A baseline that learns during the replay."""

    name: str  # name in records
    #: As `Baseline.choices`. The setting "order" is the numbering of the rows; default "raw".
    choices: Mapping[str, tuple[Any, ...]]
    #: ``make(scene, fast_rows, settings) -> RowPrefetcher``.
    make: Callable[[Scene, int, Settings], RowPrefetcher]

    def prepare(self, scene: Scene, settings: Settings) -> None:
        """Learn the order of the rows."""
        scene.accesses(settings.get("order", "raw"))

    def replay(self, scene: Scene, tier: Tier, settings: Settings, *, count_from: int) -> Outcome:
        """Replay a scene."""
        prefetcher = self.make(scene, tier.fast_rows, settings)
        order = settings.get("order", "raw")
        return replay(scene, order, tier, prefetcher, count_from=count_from)


def _next_row(scene: Scene, fast_rows: int, settings: Settings) -> RowPrefetcher:
    return NextRow(scene.stream.rows, degree=settings["degree"])


def _co_occurrence(scene: Scene, fast_rows: int, settings: Settings) -> RowPrefetcher:
    return CoOccurrence(
        _table_rows(scene, fast_rows, settings),
        partners=settings["partners"],
        window=settings["window"],
        across_samples=settings["across_samples"],
        least_share=settings["least_share"],
        degree=settings["degree"],
    )


def _domino(scene: Scene, fast_rows: int, settings: Settings) -> RowPrefetcher:
    rows = _table_rows(scene, fast_rows, settings)
    return Domino(
        rows,
        degree=settings["degree"],
        streams=settings["streams"],
        followers=settings["followers"],
        history=_MISSES_PER_ROW * rows,
        all_accesses=settings["all_accesses"],
    )


def _bingo(scene: Scene, fast_rows: int, settings: Settings) -> RowPrefetcher:
    return Bingo(
        scene.table_of(settings["order"]),
        region=settings["region"],
        active=max(1, int(settings["active_share"] * fast_rows)),
        history=_table_rows(scene, fast_rows, settings),
        voters=settings["voters"],
        votes=settings["votes"],
    )


def _table_rows(scene: Scene, fast_rows: int, settings: Settings) -> int:
    """Return the number of rows that a prefetcher's table holds."""
    return int(min(settings["remembered"] * fast_rows, scene.stream.rows))


#: The first value of each setting is the paper's, or the simplest.
TABLE_BASELINES = (
    TableBaseline("next-row", {"degree": (1, 2, 4, 8), "order": ORDERS}, _next_row),
    TableBaseline(
        "cooccurrence",
        {
            "least_share": (0.05, 0.02, 0.1, 0.2, 0.4),
            "degree": (8, 1, 2, 4, 16, 32),
            "window": (8, 4, 16, 32),
            "partners": (16, 8, 32),
            "across_samples": (False, True),
            "remembered": (32, 8),
        },
        _co_occurrence,
    ),
    TableBaseline(
        "domino",
        {
            "degree": (4, 1, 2, 8, 16),
            "followers": (3, 1, 8, 16),
            "all_accesses": (False, True),
            "streams": (4, 1, 16),
            "remembered": (32, 8),
        },
        _domino,
    ),
    TableBaseline(
        "bingo",
        {
            "order": ORDERS,
            "region": (32, 8, 16, 64),
            "votes": (0.2, 0.4, 0.6, 0.8, _NO_VOTES),
            "active_share": (0.25, 0.05, 1.0),
            "voters": (16, 4, 64),
            "remembered": (32, 8),
        },
        _bingo,
    ),
)
