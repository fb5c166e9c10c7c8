"""Baselines that keep tables of past accesses: next-row, co-occurrence, Domino and Bingo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tieralloc.policies.baselines._native import Bingo, CoOccurrence, Domino, NextRow
from tieralloc.policies.baselines.baseline import Outcome, Report, Settings, Tier, run
from tieralloc.policies.baselines.scene import ORDERS

if TYPE_CHECKING:
    from tieralloc.policies.baselines._native import RowPrefetcher
    from tieralloc.policies.baselines.scene import Scene, Stream

#: Misses that Domino keeps per row of its index, as in its paper.
_HISTORY = 8

#: Above 1: Bingo uses no short events.
_NO_VOTES = 2.0


@dataclass(frozen=True)
class TableBaseline:
    """A baseline that learns during the replay.

    Parameters
    ----------
    name : str
        Its name in records.
    choices : mapping
        As `Baseline.choices`. A setting "order" numbers the rows.
    make : callable
        ``make(stream, fast_rows, settings) -> RowPrefetcher``.
    """

    name: str
    choices: Mapping[str, tuple[Any, ...]]
    make: Callable[[Stream, int, Settings], RowPrefetcher]

    def prepare(self, scene: Scene, settings: Settings) -> None:
        """Order the rows."""
        scene.ordered(settings.get("order", "raw"))

    def replay(
        self,
        scene: Scene,
        tier: Tier,
        settings: Settings,
        *,
        count_from: int,
        report: Report = lambda done: None,
    ) -> Outcome:
        """Replay a scene."""
        order = settings.get("order", "raw")
        stream = scene.ordered(order)
        prefetcher = self.make(stream, tier.fast_rows, settings)
        counts = run(stream, tier, prefetcher, count_from=count_from, report=report)
        return Outcome(counts, prefetcher.nbytes + scene.order_bytes(order))


def _next_row(stream: Stream, fast_rows: int, settings: Settings) -> RowPrefetcher:
    return NextRow(stream.rows, degree=settings["degree"])


def _co_occurrence(stream: Stream, fast_rows: int, settings: Settings) -> RowPrefetcher:
    return CoOccurrence(
        min(settings["remembered"] * fast_rows, stream.rows),
        partners=settings["partners"],
        window=settings["window"],
        across_samples=settings["across_samples"],
        least_share=settings["least_share"],
        degree=settings["degree"],
    )


def _domino(stream: Stream, fast_rows: int, settings: Settings) -> RowPrefetcher:
    remembered = min(settings["remembered"] * fast_rows, stream.rows)
    return Domino(
        remembered,
        degree=settings["degree"],
        streams=settings["streams"],
        followers=settings["followers"],
        history=_HISTORY * remembered,
        all_accesses=settings["all_accesses"],
    )


def _bingo(stream: Stream, fast_rows: int, settings: Settings) -> RowPrefetcher:
    remembered = min(settings["remembered"] * fast_rows, stream.rows)
    return Bingo(
        stream.table_of,
        region=settings["region"],
        active=max(1, int(settings["active_share"] * fast_rows)),
        history=remembered,
        voters=settings["voters"],
        votes=settings["votes"],
    )


#: Settings start with the papers' values, or with the simplest.
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
