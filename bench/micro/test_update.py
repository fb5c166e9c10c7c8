"""Updates: of rows that are resident, of rows that are not, and until they are on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.micro.conftest import add_info
from bench.micro.known_table import KnownTable

DIM = 64
RESIDENT, COLD = 1.0, 0.0

pytestmark = pytest.mark.benchmark(group="update")


@pytest.mark.parametrize("rows", [1, 256, 4096])
@pytest.mark.parametrize("hit_ratio", [RESIDENT, COLD], ids=["resident", "cold"])
def test_update(
    benchmark: Any,
    directory: Path,
    make_known: Callable[[int], KnownTable],
    rows: int,
    hit_ratio: float,
) -> None:
    known = make_known(DIM)
    _run(benchmark, directory, known, rows, hit_ratio, lambda: None)


def test_update_and_flush(
    benchmark: Any, directory: Path, make_known: Callable[[int], KnownTable]
) -> None:
    known = make_known(DIM)
    _run(benchmark, directory, known, 4096, RESIDENT, known.store.flush)


def _run(
    benchmark: Any,
    directory: Path,
    known: KnownTable,
    rows: int,
    hit_ratio: float,
    finish: Callable[[], None],
) -> None:
    requests = known.requests(rows, hit_ratio)
    values = np.ones((rows, DIM), dtype=np.float32)

    def update() -> None:
        known.table.update(requests.next(), values)
        finish()

    known.store.flush()
    known.store.reset_stats()
    benchmark(update)
    stats = known.store.stats()
    assert stats.updates.updated_rows > 0
    assert stats.updates.updated_rows % rows == 0
    add_info(benchmark, directory, stats, rows)
    benchmark.extra_info["write_backs"] = stats.updates.write_backs
