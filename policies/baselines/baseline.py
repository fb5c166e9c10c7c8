"""What baselines share: choices of settings, and a replay that counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tieralloc.policies.baselines._native import PrefetchingSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tieralloc.policies.baselines._native import RowPrefetcher
    from tieralloc.policies.baselines.scene import Scene, Stream

#: Values by name, as JSON has them.
Settings = dict[str, Any]

#: Called with the number of accesses just replayed.
Report = Callable[[int], object]

_PIECE = 1 << 14  # samples


@dataclass(frozen=True)
class Tier:
    """The fast tier of a baseline.

    Parameters
    ----------
    caching : str
        Name of the eviction policy.
    fast_rows : int
        Its capacity.
    lag : int
        Accesses for which a prefetched row is in flight.
    """

    caching: str
    fast_rows: int
    lag: int = 0


@dataclass(frozen=True)
class Outcome:
    """The result of a replay.

    Parameters
    ----------
    counts : mapping
        As of `Simulator.counts`.
    nbytes : int
        Bytes of memory of the prefetcher.
    predict_seconds : float
        CPU seconds of predictions computed before the replay.
    """

    counts: Mapping[str, int]
    nbytes: int
    predict_seconds: float = 0.0


class Baseline(Protocol):
    """A prefetcher that others are compared with."""

    @property
    def name(self) -> str:
        """Its name in records."""

    @property
    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """Values of each setting that tuning tries; the first ones are the defaults."""

    def prepare(self, scene: Scene, settings: Settings) -> None:
        """Do the slow work that is not part of a replay, such as training."""

    def replay(
        self,
        scene: Scene,
        tier: Tier,
        settings: Settings,
        *,
        count_from: int,
        report: Report = lambda done: None,
    ) -> Outcome:
        """Replay a scene; accesses before `count_from` are not counted."""


def run(
    stream: Stream,
    tier: Tier,
    prefetcher: RowPrefetcher,
    *,
    count_from: int,
    report: Report = lambda done: None,
    before: Callable[[int, int], None] = lambda begin, end: None,
) -> Mapping[str, int]:
    """Replay a stream with a prefetcher; return the counts.

    `before` is called with the first access of each piece and the one after its last.
    """
    simulator = PrefetchingSimulator(
        tier.caching,
        tier.fast_rows,
        stream.rows,
        prefetcher,
        count_from=count_from,
        prefetch_lag=tier.lag,
    )
    for samples, begin, end in _pieces(stream):
        before(begin, end)
        simulator.run(stream.accesses[begin:end], stream.lengths[samples])
        report(end - begin)
    return simulator.counts


def _pieces(stream: Stream) -> Iterator[tuple[slice, int, int]]:
    """Yield pieces of whole samples: their samples, first access and end."""
    ends = np.append(0, np.cumsum(stream.lengths, dtype=np.int64))
    for first in range(0, len(stream.lengths), _PIECE):
        last = min(first + _PIECE, len(stream.lengths))
        yield slice(first, last), int(ends[first]), int(ends[last])
