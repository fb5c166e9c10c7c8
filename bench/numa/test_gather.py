"""Memory without a store: dependent loads, gathers, streams; and emulated latencies."""

from __future__ import annotations

from typing import Any

import pytest

from bench.numa.conftest import Pair
from tieralloc import _bindings
from tieralloc.tools import latency


@pytest.mark.benchmark(group="memory")
@pytest.mark.usefixtures("pinned")
def test_memory(benchmark: Any, pair: Pair, is_quick: bool) -> None:
    """The benchmark's own time is meaningless; `extra_info` has the measured values."""
    size = 1 << 20 if is_quick else latency.memory_bytes(pair.node)
    repeats = 1 if is_quick else latency.REPEATS
    samples = benchmark.pedantic(
        _bindings.sample_memory,
        args=(pair.node, pair.cpus, size, repeats, latency.ROW_BYTES),
        rounds=1,
    )
    assert samples["placement"]["pages_elsewhere"] == 0
    benchmark.extra_info.update({key: samples[key] for key in ("load_ns", "bytes_per_second")})
    gather_ns = dict(zip(latency.ROW_BYTES, samples["gather_ns"], strict=True))
    benchmark.extra_info["gather_ns"] = gather_ns


@pytest.mark.benchmark(group="emulated latency")
@pytest.mark.parametrize("extra_ns", [150, 400])
def test_a_chase_measures_an_emulated_latency(
    benchmark: Any, is_quick: bool, extra_ns: float
) -> None:
    arguments = ([extra_ns], 1 << 20, 1) if is_quick else ([extra_ns], None, 15)
    (record,) = benchmark.pedantic(latency.check_emulation, args=arguments, rounds=1)
    benchmark.extra_info.update(record)
    if not is_quick:
        assert record["within"], f"{record['measured_ns']:.1f} ns of {extra_ns} ns emulated"
