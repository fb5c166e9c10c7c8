"""A table with a known set of resident rows: hits and misses by construction."""

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
    """Sizes of a table; `cold` rows outnumber all slots, so that none is resident at its reuse."""

    hot: int  # rows pinned in the fast tier: always hits
    spare: int  # slots for all other rows
    cold: int  # rows that use those slots in turn: always misses


FULL = Sizes(hot=200_000, spare=8_192, cold=300_000)
SMALL = Sizes(hot=4_000, spare=512, cold=8_192)


class KnownTable:
    """A table with `hot` rows pinned, whose other rows miss when they are looked up in turn.

    A cold row is repeated after all the others, when more rows have passed through the fast tier
    than it has slots. `check_hit_ratio` checks that the policy forgets a row in that time.
    """

    def __init__(self, path: Path, embedding_dim: int, sizes: Sizes, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        rows = sizes.hot + sizes.cold
        order = self._random.permutation(rows)
        self.hot, self.cold = order[: sizes.hot], order[sizes.hot :]
        self.store = ta.TieredStore(path, fast_rows=sizes.hot + sizes.spare)
        self.table = self.store.create_table("bench", rows, embedding_dim)
        self.table.load(SourceRows([rows], embedding_dim).parts(0))
        self.table.pin(self.hot)
        self._last = Requests(np.empty((0, 1), dtype=np.int64), 0)

    def requests(self, size: int, hit_ratio: float) -> Requests:
        """Draw requests of `size` rows each, exactly a share of `hit_ratio` of them hits."""
        hits = round(size * hit_ratio)
        misses = size - hits
        # Start with the next rows in turn: rows looked up last may still be resident.
        self.cold = np.roll(self.cold, -self._last.served_misses)
        count = len(self.cold) // misses if misses else 64
        rows = np.empty((count, size), dtype=np.int64)
        rows[:, :hits] = self._random.choice(self.hot, (count, hits))
        rows[:, hits:] = self.cold[: count * misses].reshape(count, misses)
        self._last = Requests(self._random.permuted(rows, axis=1), hits)
        return self._last


class Requests:
    """Requests in turn, repeated from the first after the last."""

    def __init__(self, rows: NDArray[np.int64], hits: int) -> None:
        self._rows = rows
        self._misses = int(rows.shape[1]) - hits
        self._served = 0
        self.hit_ratio = hits / int(rows.shape[1])

    @property
    def served_misses(self) -> int:
        """Cold rows looked up since the first request of this pass."""
        passed = (self._served - 1) % max(1, len(self._rows)) + 1 if self._served else 0
        return passed * self._misses

    def next(self) -> NDArray[np.int64]:
        row: NDArray[np.int64] = self._rows[self._served % len(self._rows)]
        self._served += 1
        return row


def check_hit_ratio(stats: StoreStats, expected: float) -> None:
    """Fail a benchmark that did not measure its hit ratio."""
    assert stats.lookups > 0, "nothing was looked up"
    measured = stats.hits / stats.lookups
    assert abs(measured - expected) < 1e-6, f"hit ratio {measured}, expected {expected}"
