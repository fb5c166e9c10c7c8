"""Hits and misses, compared with baselines limited to the same DRAM."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from bench.peers.experiment import Experiment
from bench.peers.in_dram import Tieralloc
from bench.peers.on_disk import Lmdb, Memmap, PythonLru, RocksDb
from bench.peers.results import Result
from bench.peers.serving import Served
from bench.peers.workloads import TRACES, Workload
from bench.scenery.turns import Spread, alternate, percentile, ratios

_KINDS = (Tieralloc, Memmap, Lmdb, RocksDb, PythonLru)
_FAST_FRACTIONS = (0.10, 0.05)


class _Measured(NamedTuple):
    """Totals of all turns."""

    name: str
    speeds: list[float]
    p99: float
    words: str

    @classmethod
    def of(cls, adapter: Any, served: list[Served], before: tuple[int, int] | None) -> _Measured:
        speeds = [one.rows_per_second for one in served]
        latencies = [latency for one in served for latency in one.latencies]
        p99 = percentile(latencies, 99)
        words = f"{Spread.of(speeds).median:,.0f} rows/s, p99 {p99 * 1e3:,.1f} ms of "
        words += f"{len(latencies)} batches, {adapter.dram_bytes() / 2**20:,.1f} MiB"
        if before is not None:
            lookups, misses = (
                now - then for now, then in zip(adapter.misses(), before, strict=True)
            )
            words += f", miss ratio {misses / max(1, lookups):.3f}"
        return cls(adapter.name, speeds, p99, words)


def run(experiment: Experiment) -> Iterator[Result]:
    for workload in experiment.workloads("a", *TRACES):
        for fraction in _FAST_FRACTIONS:
            yield from _compare(experiment, workload, fraction)


def _compare(experiment: Experiment, workload: Workload, fraction: float) -> Iterator[Result]:
    what = f"{workload.name}, fast tier {fraction:.0%}"
    settings, dataset = experiment.settings, experiment.dataset(workload)
    budget = int(dataset.rows * fraction) * dataset.row_bytes
    with experiment.adapters(_KINDS, workload, budget) as adapters:
        for adapter in adapters:
            adapter.warm(settings.warm_seconds)
        before = {adapter.name: adapter.misses() for adapter in adapters}
        seconds = settings.slow_seconds
        measures = {each.name: partial(each.serve, seconds=seconds) for each in adapters}
        turns = alternate(f"mixed {what}", settings.turns, measures)
        measured = [_Measured.of(s, turns[s.name], before[s.name]) for s in adapters]
    figures: dict[str, float | str] = {one.name: one.words for one in measured}
    ours = next((one for one in measured if one.name == Tieralloc.name), None)
    baselines = [one for one in measured if one is not ours]
    if ours is None or not baselines:
        yield Result(what, figures=figures, note="tieralloc and a baseline are needed")
        return
    fastest = max(baselines, key=lambda one: Spread.of(one.speeds).median)
    yield Result(
        f"{what}: rows/s ÷ {fastest.name}",
        ratios(ours.speeds, fastest.speeds),
        min=5.0,
        figures=figures,
    )
    steadiest = min(baselines, key=lambda one: one.p99)
    ratio = Spread.of([ours.p99 / steadiest.p99])
    yield Result(f"{what}: p99 ÷ {steadiest.name}", ratio, max=1.0)
