"""What the models learn from: rows at moments of the past, and when each was used next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tieralloc._bindings import draw_candidate_samples, draw_row_samples
from tieralloc._common.torch import torch
from tieralloc.trace.stream import Stream, count_distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Shares of the distinct rows that the histories remember: a small fast tier remembers few rows,
#: and its features are those of a short memory.
REMEMBERED = (1.0, 0.2, 0.03)

_PER_ACCESS, _MAX_SAMPLES = 3, 1 << 20
_MAX_CANDIDATES = 1 << 19
_SKIPPED = 0.1  # of the accesses: at first all rows are new


@dataclass(frozen=True, eq=False)
class Samples:
    """Features of rows, and their next use.

    Parameters
    ----------
    features : (n, F) float32
        As `tieralloc._bindings` names them: `row_feature_names`, then of candidates
        `candidate_feature_names`.
    times : (n,) int64
        Accesses observed by then, ascending.
    distances : (n,) int64
        Accesses to the row's next one, for a candidate from the end of the sample: 0 where that
        is in the sample. Beyond all accesses where there is none.
    """

    features: torch.Tensor
    times: torch.Tensor
    distances: torch.Tensor

    def until(self, end: int) -> Samples:
        """Return the samples drawn at access `end` or before."""
        n = int(torch.searchsorted(self.times, end, right=True))
        return Samples(self.features[:n], self.times[:n], self.distances[:n])


def draw_samples(stream: Stream, contexts: Sequence[int], seed: int) -> Samples:
    """Draw rows that may be resident, a third of the samples per history of `REMEMBERED`.

    Parameters
    ----------
    stream : Stream
        Accesses.
    contexts : sequence of int
        Numbers of context tables.
    seed : int
        Random seed.
    """
    count = min(_PER_ACCESS * len(stream.accesses), _MAX_SAMPLES) // len(REMEMBERED)
    return _joined(
        draw_row_samples(
            stream.accesses,
            stream.lengths,
            stream.table_starts,
            contexts=contexts,
            remembered=remembered,
            first=int(len(stream.accesses) * _SKIPPED),
            count=count,
            seed=seed + number,
        )
        for number, remembered in enumerate(_remembered(stream))
    )


def draw_candidates(stream: Stream, contexts: Sequence[int], seed: int) -> Samples:
    """Draw candidates for prefetching; parameters as for `draw_samples`."""
    count = min(len(stream.accesses), _MAX_CANDIDATES) // len(REMEMBERED)
    return _joined(
        draw_candidate_samples(
            stream.accesses,
            stream.lengths,
            stream.table_starts,
            contexts=contexts,
            remembered=remembered,
            partners=2 * remembered,
            first=int(len(stream.accesses) * _SKIPPED),
            count=count,
            seed=seed + number,
        )
        for number, remembered in enumerate(_remembered(stream))
    )


def _remembered(stream: Stream) -> list[int]:
    distinct = count_distinct(stream.accesses, stream.rows)
    return [max(1, int(share * distinct)) for share in REMEMBERED]


def _joined(
    parts: Iterable[tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.uint32]]],
) -> Samples:
    features, times, distances = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(times, kind="stable")
    return Samples(
        torch.from_numpy(features[order]),
        torch.from_numpy(times[order].astype(np.int64)),
        torch.from_numpy(distances[order].astype(np.int64)),
    )
