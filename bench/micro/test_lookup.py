"""Lookups at known hit ratios: rows copied out, bags of 20 pooled, and all rows on demand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench.micro.known_table import KnownTable

BAGS, BAG_SIZE = 256, 20
ROWS = BAGS * BAG_SIZE

hit_ratios = pytest.mark.parametrize("hit_ratio", [1.0, 0.9, 0.5])
dims = pytest.mark.parametrize("known", [16, 64, 128], indirect=True, scope="module")


@pytest.mark.benchmark(group="lookup, 5120 rows")
@hit_ratios
@dims
def test_lookup(known: KnownTable, serve: Callable[..., None], hit_ratio: float) -> None:
    out = np.empty((ROWS, known.table.embedding_dim), dtype=np.float32)
    serve(known, ROWS, hit_ratio, lambda rows: known.table.lookup(rows, out=out))


@pytest.mark.benchmark(group="embedding_bag, 256 bags of 20")
@hit_ratios
@dims
def test_embedding_bag(known: KnownTable, serve: Callable[..., None], hit_ratio: float) -> None:
    out = np.empty((BAGS, known.table.embedding_dim), dtype=np.float32)
    offsets = np.arange(0, ROWS, BAG_SIZE)
    serve(known, ROWS, hit_ratio, lambda rows: known.table.embedding_bag(rows, offsets, out=out))


@pytest.mark.benchmark(group="lookup, all on demand")
@pytest.mark.parametrize("rows", [1, 16, 256, 4096])
def test_on_demand(known: KnownTable, serve: Callable[..., None], rows: int) -> None:
    out = np.empty((rows, known.table.embedding_dim), dtype=np.float32)
    serve(known, rows, 0.0, lambda wanted: known.table.lookup(wanted, out=out))
