"""Updates of resident rows, of other rows, and with a flush."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.micro.known_table import KnownTable


@pytest.mark.benchmark(group="update")
@pytest.mark.parametrize("rows", [1, 256, 4096])
@pytest.mark.parametrize(
    ("hit_ratio", "flush"),
    [(1.0, False), (0.0, False), (1.0, True)],
    ids=["resident", "cold", "resident-flush"],
)
def test_update(
    benchmark: Any,
    add_info: Callable[..., None],
    known: KnownTable,
    rows: int,
    hit_ratio: float,
    flush: bool,
) -> None:
    requests = known.requests(rows, hit_ratio)
    values = np.ones((rows, known.table.embedding_dim), dtype=np.float32)

    def update() -> None:
        known.table.update(requests.next(), values)
        if flush:
            known.store.flush()

    known.store.flush()
    known.store.reset_stats()
    benchmark(update)
    stats = known.store.stats()
    assert stats.updates.updated_rows > 0
    assert stats.updates.updated_rows % rows == 0
    add_info(stats, rows, write_backs=stats.updates.write_backs)
