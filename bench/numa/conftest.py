"""What the benchmarks of nodes share: pairs of processors and memory, and a thread in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tieralloc import _bindings
from tieralloc.tools import latency
from tieralloc.tools import machine as _machine


class Pair(NamedTuple):
    """Processors, and the node whose memory they read."""

    origin: int | None
    cpus: list[int]
    node: int

    @property
    def remote(self) -> bool:
        return self.origin != self.node

    def __str__(self) -> str:
        return f"from{self.origin}-node{self.node}"


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.pop("node", None)  # the host's name is nobody's business


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every pair of a node with processors and one with memory; of one node a skip for the rest."""
    if "pair" not in metafunc.fixturenames:
        return
    pairs = [Pair(*pair) for pair in latency.pairs()]
    parameters: list[Any] = [pytest.param(pair, id=str(pair)) for pair in pairs]
    if not any(pair.remote for pair in pairs):
        reason = (
            f"this machine has one NUMA node with memory ({len(_bindings.numa_nodes())} online)"
        )
        parameters.append(pytest.param(None, id="remote", marks=pytest.mark.skip(reason=reason)))
    metafunc.parametrize("pair", parameters)


@pytest.fixture
def smoke(request: pytest.FixtureRequest) -> bool:
    """Whether times do not count, so that sizes need not either."""
    return bool(request.config.getoption("benchmark_disable"))


@pytest.fixture
def pinned(pair: Pair) -> Iterator[int]:
    """Run on the pair's first processor."""
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, pair.cpus[:1])
    yield pair.cpus[0]
    os.sched_setaffinity(0, former)


@pytest.fixture
def add_info(benchmark: Any, pair: Pair, pinned: int) -> Iterator[None]:
    before = latency.cpu_frequency([pinned])
    yield
    benchmark.extra_info.update(
        from_node=pair.origin,
        cpu=pinned,
        node=pair.node,
        cpu_mhz=[before, latency.cpu_frequency([pinned])],
        machine=_machine.describe(),
    )
