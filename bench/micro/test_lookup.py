"""Lookups at known hit ratios: single rows copied out, and bags of 20 pooled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench.micro.known_table import KnownTable

BAGS, BAG_SIZE = 256, 20
ROWS = BAGS * BAG_SIZE

pytestmark = [
    pytest.mark.parametrize("hit_ratio", [1.0, 0.9, 0.5]),
    pytest.mark.parametrize("dim", [16, 64, 128], scope="module"),
]


@pytest.mark.benchmark(group="lookup, 5120 rows")
def test_lookup(
    make_known: Callable[[int], KnownTable],
    serve: Callable[..., None],
    dim: int,
    hit_ratio: float,
) -> None:
    known = make_known(dim)
    out = np.empty((ROWS, dim), dtype=np.float32)
    serve(known, ROWS, hit_ratio, lambda rows: known.table.lookup(rows, out=out))


@pytest.mark.benchmark(group="embedding_bag, 256 bags of 20")
def test_embedding_bag(
    make_known: Callable[[int], KnownTable],
    serve: Callable[..., None],
    dim: int,
    hit_ratio: float,
) -> None:
    known = make_known(dim)
    out = np.empty((BAGS, dim), dtype=np.float32)
    offsets = np.arange(0, ROWS, BAG_SIZE)
    serve(known, ROWS, hit_ratio, lambda rows: known.table.embedding_bag(rows, offsets, out=out))
