"""Training samples: features of rows at past accesses, and the distance to their next use."""

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

#: Shares of the distinct rows that the sampled histories hold. A small fast tier keeps the history
#: of few rows; its features differ from those of a full history.
HISTORY_SHARES = (1.0, 0.2, 0.03)

_SAMPLES_PER_ACCESS, _MAX_SAMPLES = 3, 1 << 20
_MAX_CANDIDATES = 1 << 19
_SKIPPED = 0.1  # share of the accesses: first accesses of rows dominate at the start


@dataclass(frozen=True, eq=False)
class Samples:
    """Features of rows, and the distances to their next use."""

    #: (n, F): in the order of `tieralloc._bindings.row_feature_names`, then, for prefetch
    #: candidates, of `candidate_feature_names`.
    features: torch.Tensor
    times: torch.Tensor  # (n,): number of accesses observed before the sample, ascending
    #: (n,): accesses until the next use of the row, larger than all accesses if there is none. For
    #: a candidate, counted from the end of the sample; 0 if the next use is in the sample.
    distances: torch.Tensor

    def until(self, end: int) -> Samples:
        """Return the samples drawn at access `end` or earlier."""
        n = int(torch.searchsorted(self.times, end, right=True))
        return Samples(self.features[:n], self.times[:n], self.distances[:n])


def draw_samples(stream: Stream, contexts: Sequence[int], seed: int) -> Samples:
    """Draw rows that may be resident, in equal numbers for each of `HISTORY_SHARES`."""
    count = min(_SAMPLES_PER_ACCESS * len(stream.accesses), _MAX_SAMPLES) // len(HISTORY_SHARES)
    return _sorted_by_time(
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
        for number, remembered in enumerate(_history_rows(stream))
    )


def draw_candidates(stream: Stream, contexts: Sequence[int], seed: int) -> Samples:
    """Draw prefetch candidates; parameters as for `draw_samples`."""
    count = min(len(stream.accesses), _MAX_CANDIDATES) // len(HISTORY_SHARES)
    return _sorted_by_time(
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
        for number, remembered in enumerate(_history_rows(stream))
    )


def _history_rows(stream: Stream) -> list[int]:
    """Return the number of rows that each sampled history holds."""
    distinct = count_distinct(stream.accesses, stream.rows)
    return [max(1, int(share * distinct)) for share in HISTORY_SHARES]


def _sorted_by_time(
    draws: Iterable[tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.uint32]]],
) -> Samples:
    features, times, distances = (np.concatenate(column) for column in zip(*draws, strict=True))
    order = np.argsort(times, kind="stable")
    return Samples(
        torch.from_numpy(features[order]),
        torch.from_numpy(times[order].astype(np.int64)),
        torch.from_numpy(distances[order].astype(np.int64)),
    )
