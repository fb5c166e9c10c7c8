"""A model of 26 embedding modules at 5 % of the rows in DRAM: the latency of a request.

`python -m bench.modules` serves the same requests with a wait per module, by `batch_lookups`, by a
collection, and with the next request prefetched. They take turns; ratios are computed turn by turn.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tieralloc as ta
from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.tables import markdown, spread
from bench.scenery.turns import alternate, percentile, ratios

TABLES = 26
SAMPLES = 32
DIM = 64
FAST_SHARE = 0.05
ZIPF = 1.05


@dataclass(frozen=True)
class Settings:
    """Sizes of a run; the first half of the turns warms the fast tier."""

    rows: int = 40_000  # of each table
    turns: int = 20
    requests: int = 30  # of a turn


FULL = Settings()
QUICK = replace(FULL, rows=1_000, turns=2, requests=2)


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


COLLECTION = "collection"
WAYS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "a wait per module": (lambda model: model, False),
    "batch_lookups": (ta.nn.batch_lookups, False),
    COLLECTION: (OneCall, False),
    "a wait per module, next prefetched": (lambda model: model, True),
    "batch_lookups, next prefetched": (ta.nn.batch_lookups, True),
}


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser("modules", __doc__, models=False, disk=True, show=False)
    options = parser.parse_args(given)
    settings = QUICK if options.quick else FULL
    facts = about(arguments.public_command("modules", given), options.dir)
    print(f"{facts['machine']}; disk: {facts['disk']}; commit {facts['commit']}\n")
    with tempfile.TemporaryDirectory(prefix="tieralloc-modules-", dir=options.dir) as directory:
        print(markdown(*_measure(settings, Path(directory))))
    if options.quick:
        print(arguments.QUICK_NOTE)
    return 0


def _measure(settings: Settings, directory: Path) -> tuple[list[str], list[list[str]]]:
    requests = _draw_requests(settings)
    with ExitStack() as stack, torch.inference_mode():
        stores = {}
        measures = {}
        for number, (way, (adapt, prefetches)) in enumerate(WAYS.items()):
            capacity = round(TABLES * settings.rows * FAST_SHARE)
            store = ta.TieredStore(directory / f"{number}.tier", fast_rows=capacity)
            stores[way] = stack.enter_context(store)
            torch.manual_seed(0)
            model = Model(settings.rows).eval()
            model = adapt(ta.nn.convert(model, store, verbose=False).model)
            measures[way] = partial(_serve, model, prefetches, requests, settings)
        half = settings.turns // 2
        alternate("warm-up", half, measures)
        for store in stores.values():
            store.reset_stats()
        later = {way: partial(_later, measure, half) for way, measure in measures.items()}
        times = alternate("requests", settings.turns - half, later)
        misses = {way: store.stats().miss_ratio for way, store in stores.items()}
    means = {way: [float(turn.mean()) for turn in turns] for way, turns in times.items()}
    lines = []
    for way, turns in times.items():
        ratio = spread(ratios(means[way], means[COLLECTION]))
        milliseconds = (np.concatenate(turns) / 1e6).tolist()
        quantiles = [f"{percentile(milliseconds, percent):.2f}" for percent in (50, 90)]
        lines.append([way, *quantiles, ratio, f"{misses[way]:.3f}"])
    return ["", "p50 ms", "p90 ms", "latency ÷ collection", "miss ratio"], lines


def _later(measure: Callable[[int], NDArray[np.int64]], first: int, turn: int) -> Any:
    return measure(first + turn)


def _serve(
    model: Any, prefetches: bool, requests: list[Any], settings: Settings, turn: int
) -> NDArray[np.int64]:
    """Return the nanoseconds of each request of a turn; the first one is not prefetched."""
    first = turn * settings.requests
    own = requests[first : first + settings.requests]
    times = np.empty(len(own), dtype=np.int64)
    for number, request in enumerate(own):
        began = perf_counter_ns()
        if prefetches and number + 1 < len(own):
            ta.nn.prefetch(model, *own[number + 1])
        model(*request)
        times[number] = perf_counter_ns() - began
    return times


def _draw_requests(settings: Settings) -> list[Any]:
    random = np.random.default_rng(1)
    count = settings.turns * settings.requests
    drawn = random.zipf(ZIPF, (count, TABLES, SAMPLES)) * 2_654_435_761 % settings.rows
    offsets = [torch.arange(SAMPLES)] * TABLES
    return [(list(torch.from_numpy(indices)), offsets) for indices in drawn]


if __name__ == "__main__":
    sys.exit(main())
