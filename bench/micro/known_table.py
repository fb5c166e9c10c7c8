"""A table of which it is known what is resident: hits and misses by construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tieralloc as ta
from tieralloc.stats import StoreStats
from tieralloc.tools.replay.source import SourceRows


@dataclass(frozen=True)
class Sizes:
    """How large a table is; `cold` rows outnumber all slots, so that none is kept until reused."""

    hot: int  # rows pinned in the fast tier: always hits
    spare: int  # slots for everything else
    cold: int  # rows that pass through those slots: always misses

    @property
    def slots(self) -> int:
        return self.hot + self.spare


FULL = Sizes(hot=200_000, spare=8_192, cold=300_000)
SMOKE = Sizes(hot=4_000, spare=512, cold=8_192)


class KnownTable:
    """A table with `hot` rows pinned, whose other rows miss if asked for in turn.

    A cold row comes up again only after all the others, by when more rows have passed through the
    fast tier than it has slots. The one thing taken for granted, that the policy forgets a row in
    that time, is checked by `check_hit_ratio` after each benchmark.
    """

    def __init__(self, path: Path, embedding_dim: int, sizes: Sizes, seed: int = 0) -> None:
        self.sizes = sizes
        self._random = np.random.default_rng(seed)
        rows = sizes.hot + sizes.cold
        order = self._random.permutation(rows)
        self.hot, self.cold = order[: sizes.hot], order[sizes.hot :]
        self.store = ta.TieredStore(path, fast_rows=sizes.slots)
        self.table = self.store.create_table("bench", rows, embedding_dim)
        self.table.load(SourceRows([rows], embedding_dim).parts(0))
        self.table.pin(self.hot)
        self._last = Requests(np.empty((0, 1), dtype=np.int64), 0)

    def requests(self, size: int, hit_ratio: float) -> Requests:
        """Requests of `size` rows each, of which a share of exactly `hit_ratio` will be hits."""
        hits = round(size * hit_ratio)
        misses = size - hits
        # Begin with the rows whose turn it is: those asked for last may be resident still.
        self.cold = np.roll(self.cold, -self._last.served_misses)
        count = len(self.cold) // misses if misses else 64
        rows = np.empty((count, size), dtype=np.int64)
        rows[:, :hits] = self._random.choice(self.hot, (count, hits))
        rows[:, hits:] = self.cold[: count * misses].reshape(count, misses)
        self._last = Requests(self._random.permuted(rows, axis=1), hits)
        return self._last


class Requests:
    """Requests in turn, and again from the first after the last."""

    def __init__(self, rows: NDArray[np.int64], hits: int) -> None:
        self._rows = rows
        self._size = int(rows.shape[1])
        self._hits = hits
        self._at = -1

    @property
    def hit_ratio(self) -> float:
        return self._hits / self._size

    @property
    def served_misses(self) -> int:
        """Cold rows asked for since the first request."""
        return (self._at + 1) * (self._size - self._hits)

    def next(self) -> NDArray[np.int64]:
        self._at += 1
        if self._at == len(self._rows):
            self._at = 0
        row: NDArray[np.int64] = self._rows[self._at]
        return row


def check_hit_ratio(stats: StoreStats, expected: float) -> None:
    """Fail a benchmark that did not measure what it says."""
    assert stats.lookups > 0, "nothing was looked up"
    measured = stats.hits / stats.lookups
    assert abs(measured - expected) < 1e-6, f"hit ratio {measured}, expected {expected}"
