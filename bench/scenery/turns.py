"""Turns: baselines alternate in one run, and ratios are computed turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from bench.scenery.processes import ChildFailedError

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of `count` values."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(low), float(high), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return ours ÷ theirs, turn by turn: a machine that slows down both cancels out."""
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of measured values; the 99th of fewer than 100 is the largest."""
    return float(np.percentile(values, percent, method="higher"))


def alternate(
    what: str,
    turns: int,
    measures: Mapping[str, Callable[[int], T]],
    failed: dict[str, str] | None = None,
) -> dict[str, list[T]]:
    """Call each measure with the number of the turn, turn after turn.

    Each turn starts with another measure, so that none always runs first. With `failed`, a measure
    whose process fails is dropped, and noted there with the reason.
    """
    results: dict[str, list[T]] = {name: [] for name in measures}
    names = list(measures)
    with tqdm(total=turns * len(names), desc=what, leave=False, disable=None) as bar:
        for turn in range(turns):
            first = turn % len(names)
            for name in (*names[first:], *names[:first]):
                bar.update()
                if name not in results:
                    continue
                try:
                    results[name].append(measures[name](turn))
                except ChildFailedError as error:
                    if failed is None:
                        raise
                    failed[name] = str(error)
                    del results[name]
    return results
