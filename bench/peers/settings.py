"""Sizes and durations of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Settings:
    """Sizes, and durations of measurements."""

    rows: int = 4_000_000
    dim: int = 64
    bags: int = 2048
    bag_size: int = 20
    trace_batch: int = 256  # samples of a recorded trace per batch
    turns: int = 5
    seconds: float = 1.0  # of a measurement
    slow_seconds: float = 2.0  # of a measurement with fetches from a disk
    warm_seconds: float = 15.0  # max, before the first measurement
    warm_batches: int = 60
    segment_batches: int = 30  # different batches in each turn
    on_demand_rows: tuple[int, ...] = (256, 1024, 4096)  # per call
    foreground_bags: int = 256  # per call under interference
    scale_rows: tuple[int, ...] = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
    scale_fast_rows: int = 1_000_000


FULL = Settings()
#: A run that only tests the command; its figures are meaningless.
QUICK = replace(
    FULL,
    rows=50_000,
    bags=64,
    turns=2,
    seconds=0.05,
    slow_seconds=0.1,
    warm_seconds=0.2,
    warm_batches=4,
    segment_batches=4,
    on_demand_rows=(256,),
    scale_rows=(10_000, 10_000_000),
    scale_fast_rows=10_000,
)
