"""What the microbenchmarks share: where files go, table sizes, what a result tells beside times."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.machine import describe
from bench.micro.known_table import FULL, SMOKE, KnownTable, Sizes, check_hit_ratio
from tieralloc.stats import StoreStats
from tieralloc.tools.disk import default_directory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bench-dir",
        type=Path,
        default=default_directory(),
        help="where the slow tiers' files go while a benchmark runs (default: a disk, if any)",
    )


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.pop("node", None)  # the host's name is nobody's business


@pytest.fixture(scope="session")
def sizes(request: pytest.FixtureRequest) -> Sizes:
    """Small tables where times do not count."""
    return SMOKE if request.config.getoption("benchmark_disable") else FULL


@pytest.fixture(scope="session")
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=request.config.getoption("bench_dir")) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def make_known(directory: Path, sizes: Sizes) -> Iterator[Callable[[int], KnownTable]]:
    """Make tables by width, one open at a time: tests of one width come after each other."""
    open_now: dict[int, KnownTable] = {}

    def path_of(dim: int) -> Path:
        return directory / f"known{dim}.tier"

    def close_all() -> None:
        for dim in list(open_now):
            known = open_now.pop(dim)
            known.store.close()
            path_of(dim).unlink()

    def make(dim: int) -> KnownTable:
        if dim not in open_now:
            close_all()
            open_now[dim] = KnownTable(path_of(dim), dim, sizes)
        return open_now[dim]

    yield make
    close_all()


@pytest.fixture
def serve(benchmark: Any, directory: Path) -> Callable[..., None]:
    """Benchmark a call on requests of a known hit ratio, and check that it was so."""

    def run(known: KnownTable, size: int, hit_ratio: float, call: Callable[..., Any]) -> None:
        requests = known.requests(size, hit_ratio)
        known.store.reset_stats()
        benchmark(lambda: call(requests.next()))
        stats = known.store.stats()
        check_hit_ratio(stats, requests.hit_ratio)
        add_info(benchmark, directory, stats, rows=size)
        benchmark.extra_info["hit_ratio"] = requests.hit_ratio
        kind = "call_hit" if requests.hit_ratio == 1 else "call_on_demand"
        benchmark.extra_info["store_latency_us"] = {
            name.removesuffix("_ns"): value if name == "count" else value / 1000
            for name, value in getattr(stats.latency, kind).to_dict().items()
        }

    return run


def add_info(benchmark: Any, directory: Path, stats: StoreStats, rows: int) -> None:
    """Add to a result what it was measured on, and what its rounds come to in rows."""
    benchmark.extra_info.update(
        rows=rows,
        slow_tier=stats.slow_tier.kind,
        engine=stats.slow_tier.engine,
        kernels=stats.lookup.kernels,
        index=stats.fast_tier.index,
        policy=stats.policy,
        machine=describe(directory),
    )
    if benchmark.stats is None:
        return
    rounds = benchmark.stats.stats
    benchmark.extra_info["rows_per_second"] = round(rows / rounds.median)
    percentiles = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    seconds = np.percentile(rounds.data, list(percentiles.values()))
    benchmark.extra_info["latency_us"] = dict(zip(percentiles, seconds * 1e6, strict=True))
