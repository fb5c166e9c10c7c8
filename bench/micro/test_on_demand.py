"""Lookups of which every row comes from the slow tier, one batch of reads a call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench.micro.known_table import KnownTable

DIM = 64


@pytest.mark.benchmark(group="lookup, all on demand")
@pytest.mark.parametrize("rows", [1, 16, 256, 4096])
def test_on_demand(
    make_known: Callable[[int], KnownTable], serve: Callable[..., None], rows: int
) -> None:
    known = make_known(DIM)
    out = np.empty((rows, DIM), dtype=np.float32)
    serve(known, rows, 0.0, lambda wanted: known.table.lookup(wanted, out=out))
