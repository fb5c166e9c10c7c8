"""What all rivals have in common: settings to be chosen from, and a replay that counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tieralloc._core import PrefetchingSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tieralloc._core import RowPrefetcher
    from tieralloc.policies.rivals.scene import Scene, Stream

#: Values by name, as JSON has them.
Settings = dict[str, Any]

#: Called with the number of accesses just replayed.
Report = Callable[[int], object]

_PIECE = 1 << 14  # samples


@dataclass(frozen=True)
class Tier:
    """The fast tier that a rival fills.

    Parameters
    ----------
    caching : str
        The eviction policy, by its name.
    fast_rows : int
        Rows of it.
    lag : int
        Accesses for which a row fetched ahead is in flight.
    """

    caching: str
    fast_rows: int
    lag: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a replay came to.

    Parameters
    ----------
    counts : mapping
        As of `Simulator.counts`.
    nbytes : int
        Bytes of memory that the prefetcher took.
    foretelling : float
        CPU seconds spent before the replay on what it should fetch.
    """

    counts: Mapping[str, int]
    nbytes: int
    foretelling: float = 0.0


class Rival(Protocol):
    """A prefetcher to compare with."""

    @property
    def name(self) -> str:
        """What records call it."""

    @property
    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """Values of each setting that are tried when it is tuned; it starts from the first ones."""

    def prepare(self, scene: Scene, settings: Settings) -> None:
        """Do what takes time and is not part of a replay: learn from what may be learned from."""

    def replay(
        self,
        scene: Scene,
        tier: Tier,
        settings: Settings,
        *,
        count_from: int,
        report: Report = lambda done: None,
    ) -> Outcome:
        """Replay a scene with it over a tier; accesses before `count_from` are not counted."""


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
    """Return samples, and first and last access, of pieces that are replayed at a time."""
    ends = np.append(0, np.cumsum(stream.lengths, dtype=np.int64))
    for first in range(0, len(stream.lengths), _PIECE):
        last = min(first + _PIECE, len(stream.lengths))
        yield slice(first, last), int(ends[first]), int(ends[last])
