"""The interface of a baseline, and the replay that all of them use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tieralloc.policies.baselines._native import PrefetchingSimulator

if TYPE_CHECKING:
    from tieralloc.policies.baselines._native import RowPrefetcher
    from tieralloc.policies.baselines.scene import Scene

#: Settings by name, as JSON values.
Settings = dict[str, Any]

_BATCH_SAMPLES = 1 << 14


@dataclass(frozen=True)
class Tier:
    """The fast tier of a replay."""

    caching: str  # name of the eviction policy
    fast_rows: int
    lag: int = 0  # accesses for which a prefetch is in flight


@dataclass(frozen=True)
class Outcome:
    """The result of a replay."""

    counts: Mapping[str, int]  # counts by name, as of `Simulator.counts`
    nbytes: int  # memory of the prefetcher in bytes
    #: CPU seconds of the predictions that were computed before the replay.
    predict_seconds: float = 0.0


class Baseline(Protocol):
    """A prefetcher to compare policies with."""

    @property
    def name(self) -> str:
        """Name in records."""

    @property
    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """The values of each setting that tuning tries; the first is the default."""

    def prepare(self, scene: Scene, settings: Settings) -> None:
        """Compute and cache everything that precedes a replay, such as training."""

    def replay(self, scene: Scene, tier: Tier, settings: Settings, *, count_from: int) -> Outcome:
        """Replay a scene; accesses before `count_from` are not counted."""


def replay(
    scene: Scene,
    order: str,
    tier: Tier,
    prefetcher: RowPrefetcher,
    *,
    count_from: int,
    before_batch: Callable[[int, int], None] = lambda begin, end: None,
) -> Outcome:
    """Replay a scene with a prefetcher, with rows numbered in an order of `scene.ORDERS`.

    `before_batch` is called with the number of the first access of each batch, and of the first
    after it.
    """
    lengths = scene.stream.lengths
    accesses = scene.accesses(order)
    simulator = PrefetchingSimulator(
        tier.caching,
        tier.fast_rows,
        scene.stream.rows,
        prefetcher,
        count_from=count_from,
        prefetch_lag=tier.lag,
    )
    begin = 0
    for first in range(0, len(lengths), _BATCH_SAMPLES):
        batch = lengths[first : first + _BATCH_SAMPLES]
        end = begin + int(batch.sum())
        before_batch(begin, end)
        simulator.run(accesses[begin:end], batch)
        begin = end
    return Outcome(simulator.counts, prefetcher.nbytes + scene.order_bytes(order))
