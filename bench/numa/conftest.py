"""Fixtures of the NUMA benchmarks: pairs of processors and memory, and pinning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tieralloc import _bindings
from tieralloc.tools import latency
from tieralloc.tools import machine as _machine


class Pair(NamedTuple):
    """Processors of a node, and the node of the memory that they read."""

    origin: int | None
    cpus: list[int]
    node: int

    def __str__(self) -> str:
        return f"from{self.origin}-node{self.node}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize with every pair; on a machine with one node, remote pairs are skipped."""
    if "pair" not in metafunc.fixturenames:
        return
    pairs = [Pair(*pair) for pair in latency.pairs()]
    parameters: list[Any] = [pytest.param(pair, id=str(pair)) for pair in pairs]
    if all(pair.origin == pair.node for pair in pairs):
        reason = (
            f"this machine has one NUMA node with memory ({len(_bindings.numa_nodes())} online)"
        )
        parameters.append(pytest.param(None, id="remote", marks=pytest.mark.skip(reason=reason)))
    metafunc.parametrize("pair", parameters)


@pytest.fixture
def pinned(benchmark: Any, pair: Pair) -> Iterator[None]:
    """Run on the pair's first processor, and add the pair to the result."""
    former = os.sched_getaffinity(0)
    (cpu, *_) = pair.cpus
    os.sched_setaffinity(0, [cpu])
    before = latency.cpu_frequency([cpu])
    yield
    os.sched_setaffinity(0, former)
    benchmark.extra_info.update(
        from_node=pair.origin,
        cpu=cpu,
        node=pair.node,
        cpu_mhz=[before, latency.cpu_frequency([cpu])],
        machine=_machine.describe(),
    )
