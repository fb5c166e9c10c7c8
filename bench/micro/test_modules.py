"""A model of 26 embedding modules at 5 % of the rows in DRAM: the time of a request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tieralloc as ta

torch = pytest.importorskip("torch")

TABLES = 26
SAMPLES = 32
DIM = 64
FAST_SHARE = 0.05
ZIPF = 1.05
ROWS, REQUESTS = 40_000, 300  # of each table; of the warm-up and of the measurement
FEW_ROWS, FEW_REQUESTS = 1_000, 4  # if times are ignored


class Model(torch.nn.Module):
    """A bag per feature, concatenated, and a dense layer."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.bags = torch.nn.ModuleList(
            torch.nn.EmbeddingBag(rows, DIM, mode="sum") for _ in range(TABLES)
        )
        self.top = torch.nn.Linear(TABLES * DIM, 1)

    def forward(self, indices: list[Any], offsets: list[Any]) -> Any:
        calls = zip(self.bags, indices, offsets, strict=True)
        return self.top(torch.cat([bag(*call) for bag, *call in calls], 1))


class OneCall(torch.nn.Module):
    """The same model on a collection of the bags."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.bags = ta.nn.TieredEmbeddingBagCollection(model.bags)
        self.top = model.top

    def forward(self, indices: list[Any], offsets: list[Any]) -> Any:
        return self.top(self.bags.embedding_bag(indices, offsets))


WAYS: dict[str, Callable[[Any], Any]] = {
    "each module": lambda model: model,
    "batch_lookups": ta.nn.batch_lookups,
    "collection": OneCall,
    "batch_lookups, next prefetched": ta.nn.batch_lookups,
}


def draw_requests(rows: int, count: int) -> list[Any]:
    random = np.random.default_rng(1)
    drawn = random.zipf(ZIPF, (count, TABLES, SAMPLES)) * 2_654_435_761 % rows
    offsets = [torch.arange(SAMPLES)] * TABLES
    return [(list(torch.from_numpy(indices)), offsets) for indices in drawn]


@pytest.mark.benchmark(group="request of 26 embedding modules, 5 % of the rows in DRAM")
@pytest.mark.parametrize("way", WAYS)
def test_request_of_modules(
    benchmark: Any, add_info: Callable[..., None], directory: Path, is_quick: bool, way: str
) -> None:
    rows, count = (FEW_ROWS, FEW_REQUESTS) if is_quick else (ROWS, REQUESTS)
    requests = draw_requests(rows, 2 * count + 1)
    path = directory / "modules.tier"
    capacity = round(TABLES * rows * FAST_SHARE)
    with torch.inference_mode(), ta.TieredStore(path, fast_rows=capacity) as store:
        converted = ta.nn.convert(Model(rows).eval(), store, verbose=False).model
        model = WAYS[way](converted)
        numbers = iter(range(len(requests)))

        def serve(number: int) -> None:
            if way.endswith("prefetched"):
                ta.nn.prefetch(model, *requests[number + 1])
            model(*requests[number])

        for _ in range(count):
            serve(next(numbers))
        store.reset_stats()
        benchmark.pedantic(serve, setup=lambda: ((next(numbers),), {}), rounds=count)
        add_info(store.stats(), TABLES * SAMPLES, miss_ratio=store.stats().miss_ratio)
    path.unlink()
