"""Random reads of a store from a directory's disk, at the engine and queue depth in use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tieralloc._common.files import temporary_directory
from tieralloc.store import TieredStore
from tieralloc.tiers import File

#: Bytes of the probed file.
PROBE_BYTES = 64 << 20
_DIM = 896  # a row per page
_SECONDS = 0.5


class ReadSpeed(NamedTuple):
    """Reads of rows by calls that miss all rows."""

    engine: str
    depth: int
    reads_per_second: float
    median_us: float  # of a read, from its submission to its completion


def measure_reads(directory: Path) -> ReadSpeed:
    """Look rows up that are not in DRAM, `queue_depth` of them per call, for half a second.

    OSError if the file cannot be written or read.
    """
    rows = PROBE_BYTES // 4096
    slow = File(directory, mode="w")
    depth = min(slow.queue_depth, rows)
    random = np.random.default_rng(0)
    with temporary_directory(directory) as folder:
        with TieredStore(folder / "probe.tier", mode="w", fast_rows=1) as store:
            table = store.create_table("probe", rows, _DIM)
            table.load(np.ones((rows, _DIM), dtype=np.float32))
        with TieredStore(folder / "probe.tier", mode="r", fast_rows=1) as store:
            table = store.table("probe")
            start, reads = time.perf_counter(), 0
            while time.perf_counter() - start < _SECONDS:
                for indices in np.array_split(random.permutation(rows), rows // depth):
                    table.lookup(indices)
                    reads += len(indices)
                    if time.perf_counter() - start >= _SECONDS:
                        break
            seconds = time.perf_counter() - start
            stats = store.stats()
    latency = stats.latency.row_on_demand
    return ReadSpeed(stats.slow_tier.engine, depth, reads / seconds, latency.p50_ns / 1000)
