"""``tieralloc latency``: latency and bandwidth of each node's memory from each node's CPUs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tieralloc import _bindings
from tieralloc._common.progress import Progress, silent
from tieralloc.store import TieredStore
from tieralloc.tiers import NumaMemory
from tieralloc.tools import machine as _machine
from tieralloc.tools.emulated import EmulatedMemory

#: Row sizes of the gather measurement.
ROW_BYTES = (64, 128, 256, 512, 1024)
REPEATS = 15
#: Maximum relative deviation of an emulated latency from a chase of dependent loads.
TOLERANCE = 0.10

_LOOKUP_DIM = 64
_LOOKUP_ROWS = 4096
_MIN_BYTES = 64 << 20
_MAX_BYTES = 1 << 30
_CACHE_MULTIPLE = 4


def memory_bytes(node: int) -> int:
    """Return the bytes of a node to measure: more than the CPU caches, a quarter of the free ones.

    ValueError for a node that is not usable names the usable ones.
    """
    target = max(_MIN_BYTES, _CACHE_MULTIPLE * last_level_cache())
    available = _bindings.usable_node(node)["available"]
    return int(min(target, _MAX_BYTES, max(available // 4, 1 << 20)))


def last_level_cache() -> int:
    """Return the bytes of the largest CPU cache; 0 if the kernel does not list it."""
    largest = 0
    for size in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        if match := re.fullmatch(r"(\d+)([KM]?)", _machine.read_text(size) or ""):
            largest = max(largest, int(match[1]) << {"": 0, "K": 10, "M": 20}[match[2]])
    return largest


def pairs(
    nodes: Sequence[int] | None = None, from_cpus: Sequence[int] | None = None
) -> list[tuple[int | None, list[int], int]]:
    """Return the pairs to measure as (node of the CPUs, CPUs, node of the memory).

    `nodes` are the nodes of the memory, by default all that this process may use; `from_cpus` the
    CPUs to measure from, by default those of each node.
    """
    all_nodes = _bindings.numa_nodes()
    if nodes is None:
        nodes = [node["id"] for node in all_nodes if node["bytes"] and node["allowed"]]
    for number in nodes:
        _bindings.usable_node(number)
    usable_cpus = os.sched_getaffinity(0)
    origins: list[tuple[int | None, list[int]]] = []
    if from_cpus is not None:
        origins.append((None, list(from_cpus)))
    else:
        for node in all_nodes:
            if cpus := [cpu for cpu in node["cpus"] if cpu in usable_cpus]:
                origins.append((node["id"], cpus))
    return [(origin, cpus, node) for origin, cpus in origins for node in nodes]


def measure(
    nodes: Sequence[int] | None = None,
    from_cpus: Sequence[int] | None = None,
    *,
    bytes_of_node: Callable[[int], int] = memory_bytes,
    repeats: int = REPEATS,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Measure each pair of `pairs`, with `repeats` samples per metric; return a record per pair.

    A record has from_node (None with `from_cpus`), from_cpus, node, memory_bytes, huge_page_bytes,
    pages_elsewhere; load_ns (a dependent load, from the first CPU), bytes_per_second (read by all
    CPUs), gather_ns (per row, by row bytes), lookup_ns (per 256-byte row, read in place by a store
    with this slow tier), each {median, q1, q3, samples}; cpu_mhz {min, max, governor}, machine,
    emulated (False).

    ValueError if a node or a CPU is not usable; MemoryError or OSError if memory cannot be
    allocated or bound.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    measured_pairs = pairs(nodes, from_cpus)
    records = []
    with progress("measuring memory", len(measured_pairs), "pairs") as done:
        for origin, cpus, node in measured_pairs:
            size = bytes_of_node(node)
            before = cpu_frequency(cpus)
            samples = _bindings.sample_memory(node, cpus, size, repeats, ROW_BYTES)
            lookup = _lookup_ns(node, cpus, size, repeats)
            records.append(
                {
                    "from_node": origin,
                    "from_cpus": cpus,
                    "node": node,
                    "memory_bytes": size,
                    "huge_page_bytes": samples["huge_page_bytes"],
                    "pages_elsewhere": samples["placement"]["pages_elsewhere"],
                    "load_ns": _quartiles(samples["load_ns"]),
                    "bytes_per_second": _quartiles(samples["bytes_per_second"]),
                    "gather_ns": {
                        str(row): _quartiles(row_samples)
                        for row, row_samples in zip(ROW_BYTES, samples["gather_ns"], strict=True)
                    },
                    "lookup_ns": _quartiles(lookup),
                    "cpu_mhz": _merged(before, cpu_frequency(cpus)),
                    "machine": _machine.describe(),
                    "emulated": False,
                }
            )
            done(1)
    return records


def check_emulation(
    extra_ns: Sequence[float], size: int | None = None, repeats: int = REPEATS
) -> list[dict[str, Any]]:
    """Compare emulated extra latencies with a chase of dependent loads; return a record for each.

    A record has extra_ns, load_ns and load_with_extra_ns as {median, q1, q3, samples}, measured_ns
    (median difference), deviation (relative to extra_ns), within (whether the deviation is at most
    10%), emulated (True).
    """
    size = memory_bytes(_bindings.numa_nodes()[0]["id"]) if size is None else size
    records = []
    for extra in extra_ns:
        plain, slowed = _bindings.sample_emulation(EmulatedMemory(extra).extra_ns, size, repeats)
        measured = float(np.median(np.array(slowed) - np.array(plain)))
        deviation = measured / extra - 1
        records.append(
            {
                "extra_ns": extra,
                "load_ns": _quartiles(plain),
                "load_with_extra_ns": _quartiles(slowed),
                "measured_ns": measured,
                "deviation": deviation,
                "within": abs(deviation) <= TOLERANCE,
                "emulated": True,
            }
        )
    return records


def cpu_frequency(cpus: Sequence[int]) -> dict[str, Any]:
    """Return the min and max CPU frequency in MHz, and the governor; None if not listed."""
    current = [
        _machine.read_text(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq")
        for cpu in cpus
    ]
    megahertz = [int(text) / 1000 for text in current if text and text.isdecimal()]
    if not megahertz:
        cores = (_machine.read_text("/proc/cpuinfo") or "").split("\n\n")
        for core in cores:
            number = re.search(r"^processor\s*:\s*(\d+)", core, re.MULTILINE)
            speed = re.search(r"^cpu MHz\s*:\s*([\d.]+)", core, re.MULTILINE)
            if number and speed and int(number[1]) in cpus:
                megahertz.append(float(speed[1]))
    governor = _machine.read_text(f"/sys/devices/system/cpu/cpu{cpus[0]}/cpufreq/scaling_governor")
    return {
        "min": min(megahertz, default=None),
        "max": max(megahertz, default=None),
        "governor": governor,
    }


def _merged(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    if before["min"] is None or after["min"] is None:
        return after
    return {
        "min": min(before["min"], after["min"]),
        "max": max(before["max"], after["max"]),
        "governor": after["governor"],
    }


def _lookup_ns(node: int, cpus: Sequence[int], size: int, repeats: int) -> list[float]:
    """Return samples of ns per row of the store's lookup, from one CPU."""
    rows = max(size // (4 * _LOOKUP_DIM), 1)
    random = np.random.default_rng(0)
    out = np.empty((_LOOKUP_ROWS, _LOOKUP_DIM), dtype=np.float32)
    with (
        _pinned_to(cpus[0]),
        TieredStore(slow=NumaMemory(node), fast_rows=0, cpus=cpus) as store,
    ):
        table = store.create_table("rows", rows, _LOOKUP_DIM)
        samples = []
        for _ in range(repeats):
            calls = random.integers(0, rows, (8, _LOOKUP_ROWS))
            start = time.perf_counter_ns()
            for indices in calls:
                table.lookup(indices, out=out)
            samples.append((time.perf_counter_ns() - start) / calls.size)
    return samples


@contextmanager
def _pinned_to(cpu: int) -> Iterator[None]:
    previous = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, previous)


def _quartiles(samples: Sequence[float]) -> dict[str, Any]:
    q1, median, q3 = np.quantile(samples, [0.25, 0.5, 0.75]).tolist()
    return {"median": median, "q1": q1, "q3": q3, "samples": len(samples)}
