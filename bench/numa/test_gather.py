"""Memory by itself: dependent loads, rows gathered, streams, and latencies that are emulated."""

from __future__ import annotations

from typing import Any

import pytest

from bench.numa.conftest import Pair
from tieralloc import _bindings
from tieralloc.tools import latency


@pytest.mark.benchmark(group="memory")
@pytest.mark.usefixtures("add_info")
def test_memory(benchmark: Any, pair: Pair, smoke: bool) -> None:
    """The benchmark's own time means nothing; `extra_info` has what was measured in it."""
    size = 1 << 20 if smoke else latency.memory_bytes(pair.node)
    repeats = 1 if smoke else latency.REPEATS
    samples = benchmark.pedantic(
        _bindings.sample_memory,
        args=(pair.node, pair.cpus, size, repeats, latency.ROW_BYTES),
        rounds=1,
    )
    assert samples["placement"]["pages_elsewhere"] == 0
    benchmark.extra_info.update({key: samples[key] for key in ("load_ns", "bytes_per_second")})
    benchmark.extra_info["gather_ns"] = dict(
        zip(latency.ROW_BYTES, samples["gather_ns"], strict=True)
    )


@pytest.mark.benchmark(group="emulated latency")
@pytest.mark.parametrize("extra_ns", [150, 400])
def test_an_emulated_latency_is_what_a_chase_says(
    benchmark: Any, smoke: bool, extra_ns: float
) -> None:
    size = 1 << 20 if smoke else None
    record = benchmark.pedantic(
        latency.check_emulation, args=([extra_ns], size, 1 if smoke else 15), rounds=1
    )[0]
    benchmark.extra_info.update(record)
    if not smoke:
        assert record["within"], f"{record['measured_ns']:.1f} ns of {extra_ns} ns emulated"
