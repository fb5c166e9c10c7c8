"""Rows of int8, all resident: compared with FBGEMM, torch and tieralloc's float32 rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.peers.experiment import Experiment
from bench.peers.in_dram import Tieralloc
from bench.peers.quantised import FbgemmInt8, FbgemmInt8HugePages, TierallocInt8, TorchInt8
from bench.peers.results import Result
from bench.scenery.turns import Spread, alternate, ratios

_KINDS = (TierallocInt8, Tieralloc, FbgemmInt8, FbgemmInt8HugePages, TorchInt8)
_MIN_OF_FBGEMM = 1.3
_MIN_OF_FLOATS = 1.5


def run(experiment: Experiment) -> Iterator[Result]:
    """Measure one thread on Zipf and on uniform ids."""
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
