"""How large and how long a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Sizes of a run, and the seconds that each measurement may take."""

    rows: int
    dim: int
    bags: int
    bag_size: int
    trace_batch: int  # samples of a real trace in a batch
    rounds: int  # alternations
    seconds: float  # of one measurement
    slow_seconds: float  # of one measurement where peers fetch from a disk
    warm_seconds: float  # at most, before the first one
    warm_batches: int
    segment_batches: int  # different batches in each alternation
    on_demand_rows: tuple[int, ...]  # rows a call
    foreground_bags: int  # of a call under interference
    scale_rows: tuple[int, ...]  # the first is what the last is compared with
    scale_fast_rows: int

    @property
    def row_bytes(self) -> int:
        return self.dim * 4


FULL = Settings(
    rows=4_000_000,
    dim=64,
    bags=2048,
    bag_size=20,
    trace_batch=256,
    rounds=5,
    seconds=1.0,
    slow_seconds=2.0,
    warm_seconds=15.0,
    warm_batches=60,
    segment_batches=30,
    on_demand_rows=(256, 1024, 4096),
    foreground_bags=256,
    scale_rows=(1_000_000, 10_000_000, 100_000_000, 1_000_000_000),
    scale_fast_rows=1_000_000,
)

#: A run that shows that everything works; its figures mean nothing.
QUICK = Settings(
    rows=50_000,
    dim=64,
    bags=64,
    bag_size=20,
    trace_batch=256,
    rounds=2,
    seconds=0.05,
    slow_seconds=0.1,
    warm_seconds=0.2,
    warm_batches=4,
    segment_batches=4,
    on_demand_rows=(256,),
    foreground_bags=256,
    scale_rows=(10_000, 10_000_000),
    scale_fast_rows=10_000,
)
