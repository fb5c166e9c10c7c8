"""Fixtures of the microbenchmarks: directory, table sizes, and extra fields of results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.micro.known_table import FULL, SMALL, KnownTable, Sizes, check_hit_ratio
from bench.scenery.about import about
from tieralloc.stats import StoreStats
from tieralloc.tools.disk import default_directory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="each once, small, as with no benchmark")
    parser.addoption(
        "--bench-dir",
        type=Path,
        default=default_directory(),
        help="where the files of slow tiers go (default: a disk, if any)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("quick"):
        config.option.benchmark_disable = True


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.pop("node", None)  # the host name is private


@pytest.fixture(scope="session")
def is_quick(request: pytest.FixtureRequest) -> bool:
    """Whether times are ignored, so that tables may be small."""
    return bool(request.config.getoption("benchmark_disable"))


@pytest.fixture(scope="session")
def sizes(is_quick: bool) -> Sizes:
    return SMALL if is_quick else FULL


@pytest.fixture(scope="session")
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=request.config.getoption("bench_dir")) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def known(request: pytest.FixtureRequest, directory: Path, sizes: Sizes) -> Iterator[KnownTable]:
    """Return a table of the embedding dim of the test's parameters, by default 64."""
    dim = getattr(request, "param", 64)
    path = directory / f"known{dim}.tier"
    table = KnownTable(path, dim, sizes)
    yield table
    table.store.close()
    path.unlink()


@pytest.fixture
def add_info(benchmark: Any, directory: Path) -> Callable[..., None]:
    """Add the table's properties and rows per second to a result."""

    def add(stats: StoreStats, rows: int, **more: Any) -> None:
        benchmark.extra_info.update(
            rows=rows,
            slow_tier=stats.slow_tier.kind,
            engine=stats.slow_tier.engine,
            kernels=stats.lookup.kernels,
            index=stats.fast_tier.index,
            policy=stats.policy,
            **about("make bench", directory),
            **more,
        )
        if benchmark.stats is not None:
            benchmark.extra_info["rows_per_second"] = round(rows / benchmark.stats.stats.median)

    return add


@pytest.fixture
def serve(benchmark: Any, add_info: Callable[..., None]) -> Callable[..., None]:
    """Benchmark a call on requests of a known hit ratio, and check that ratio."""

    def run(known: KnownTable, size: int, hit_ratio: float, call: Callable[..., Any]) -> None:
        requests = known.requests(size, hit_ratio)
        known.store.reset_stats()
        benchmark(lambda: call(requests.next()))
        stats = known.store.stats()
        check_hit_ratio(stats, requests.hit_ratio)
        kind = "call_hit" if requests.hit_ratio == 1 else "call_on_demand"
        latency = stats.latency.to_dict()[kind]
        del latency["counts_below"]
        add_info(stats, size, hit_ratio=requests.hit_ratio, store_latency_ns=latency)

    return run
