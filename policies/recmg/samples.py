"""What the models learn from: rows at moments of the past, and when each was used next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tieralloc._core import RowHistory
from tieralloc._torch import torch
from tieralloc.simulate import count_distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNSAMPLED = 0.1  # at the beginning, when all rows are new
_MOST = 1 << 20

#: Shares of the distinct rows that are remembered while candidates are drawn: what is known of them
#: depends on it, and serving remembers as many as a fast tier needs, small or large.
_REMEMBERED = (1.0, 0.1)
_LOGGED = 32  # accesses for each of them


@dataclass(frozen=True, eq=False)
class Samples:
    """Features of rows, and what came of them.

    Parameters
    ----------
    features : (n, F) float32
        What was known.
    times : (n,) int64
        Accesses that had been observed, ascending.
    distances : (n,) int64
        From then to the row's next access, at least 1; beyond all accesses where there is none.
    """

    features: torch.Tensor
    times: torch.Tensor
    distances: torch.Tensor

    @classmethod
    def joined(
        cls, parts: Sequence[tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.uint32]]]
    ) -> Samples:
        """Put together what was drawn in several runs over the same accesses."""
        features, times, distances = (
            parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        )
        if len(parts) > 1:
            order = np.argsort(times, kind="stable")
            features, times, distances = features[order], times[order], distances[order]
        return cls(
            torch.from_numpy(features),
            torch.from_numpy(times.astype(np.int64)),
            torch.from_numpy(distances.astype(np.int64)),
        )

    def until(self, end: int) -> Samples:
        """Return those drawn at access `end` at the latest."""
        n = int(torch.searchsorted(self.times, end, right=True))
        return Samples(self.features[:n], self.times[:n], self.distances[:n])


@dataclass(frozen=True, eq=False)
class Stream:
    """Accesses to learn from.

    Parameters
    ----------
    accesses : (n,) uint64
        Rows, in order.
    lengths : (B,) uint32
        Accesses of each sample.
    table_starts : (T + 1,) uint64
        As `tieralloc._core.RowHistory` takes them.
    contexts : list of int
        Numbers of context tables.
    """

    accesses: NDArray[np.uint64]
    lengths: NDArray[np.uint32]
    table_starts: NDArray[np.uint64]
    contexts: list[int]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return int(self.table_starts[-1])

    def history(self, capacity: int) -> RowHistory:
        """Make an empty history of so many rows, or of all where there are fewer."""
        return RowHistory(self.table_starts, max(1, min(capacity, self.rows)), self.contexts)

    def draw_residents(self, seed: int) -> Samples:
        """Draw rows that may be resident, as the caching model is asked about."""
        history = self.history(count_distinct(self.accesses, self.rows))
        count = min(len(self.accesses), _MOST)
        drawn = history.draw_samples(
            self.accesses, self.lengths, first=self._first, count=count, seed=seed
        )
        return Samples.joined([drawn])

    def draw_candidates(self, seed: int) -> Samples:
        """Draw rows that could be fetched ahead, as the prefetch model is asked about."""
        distinct = count_distinct(self.accesses, self.rows)
        parts = []
        for number, share in enumerate(_REMEMBERED):
            remembered = max(1, int(share * distinct))
            drawn = self.history(remembered).draw_candidates(
                self.accesses,
                self.lengths,
                first=self._first,
                count=_MOST // len(_REMEMBERED),
                logged=min(_LOGGED * remembered, len(self.accesses)),
                seed=seed + number,
            )
            parts.append(drawn)
        return Samples.joined(parts)

    @property
    def _first(self) -> int:
        return int(len(self.accesses) * _UNSAMPLED)
