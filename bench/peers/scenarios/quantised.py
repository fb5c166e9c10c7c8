"""Rows of int8, all resident: compared with FBGEMM, torch and tieralloc's float32 rows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial

import numpy as np

import tieralloc as ta
from bench.peers.experiment import Experiment
from bench.peers.in_dram import Tieralloc
from bench.peers.quantised import FbgemmInt8, FbgemmInt8HugePages, TierallocInt8, TorchInt8
from bench.peers.results import Result
from bench.scenery.turns import Spread, alternate, ratios

_KINDS = (TierallocInt8, Tieralloc, FbgemmInt8, FbgemmInt8HugePages, TorchInt8)
_MIN_OF_FBGEMM = 1.3
_MIN_OF_FLOATS = 1.5
_MIN_LOAD = 0.8  # of the disk's speed


def run(experiment: Experiment) -> Iterator[Result]:
    """Measure one thread on Zipf and on uniform ids, and the load of floats."""
    settings = experiment.settings
    for workload in experiment.workloads("a", "b"):
        with experiment.adapters(_KINDS, workload) as adapters:
            measures = {
                adapter.name: partial(adapter.serve_repeatedly, seconds=settings.seconds)
                for adapter in adapters
            }
            turns = alternate(f"int8 {workload.name}", settings.turns, measures)
        speeds = {name: [one.rows_per_second for one in served] for name, served in turns.items()}
        figures = {f"{name}, M rows/s": Spread.of(s).median / 1e6 for name, s in speeds.items()}
        ours = speeds[TierallocInt8.name]
        for kind in _KINDS[1:]:
            if kind.name not in speeds:
                yield Result(f"{workload.name} ÷ {kind.name}", note="it did not run")
                continue
            is_own = kind is Tieralloc
            target = _MIN_OF_FLOATS if is_own else _MIN_OF_FBGEMM
            if is_own and workload.name.startswith("(a)"):
                target = None  # most of these rows are in the processor's caches
            yield Result(
                f"{workload.name} ÷ {kind.name}",
                ratios(ours, speeds[kind.name]),
                min=target,
                figures=figures if is_own else {},
            )
    yield _load(experiment)


def _load(experiment: Experiment) -> Result:
    """Compare the quantisation of floats into a file with plain writes of as many bytes."""
    settings, directory = experiment.settings, experiment.directory
    part = np.random.default_rng(0).standard_normal((1 << 16, settings.dim), dtype=np.float32)
    count = -(-settings.rows // len(part))
    written = []

    def quantise(turn: int) -> float:
        with ta.TieredStore(directory / "load.tier", mode="w", fast_rows=1) as store:
            table = store.create_table("t", count * len(part), settings.dim, "int8")
            began = time.monotonic()
            table.load(part for _ in range(count))
            seconds = time.monotonic() - began
            written.append(store._core.pages(table.position)[0] * 4096)
        return seconds

    def write(turn: int) -> float:
        block = bytes(4 << 20)
        began = time.monotonic()
        with open(directory / "plain", "wb", buffering=0) as file:
            for _ in range(written[-1] // len(block)):
                file.write(block)
            os.fdatasync(file.fileno())
        return time.monotonic() - began

    quantise(-1)
    turns = alternate("load of int8", settings.turns, {"load": quantise, "write": write})
    speed = {f"{name}, s": Spread.of(seconds).median for name, seconds in turns.items()}
    rows = f"{count * len(part):,} rows"
    value = ratios(turns["write"], turns["load"])
    return Result(f"load of {rows} of floats ÷ plain writes", value, min=_MIN_LOAD, figures=speed)
