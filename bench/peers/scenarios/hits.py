"""All rows resident: tieralloc compared with torch and FBGEMM, and with more lookup threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from bench.peers.adapter import Adapter, BaselineFailedError
from bench.peers.experiment import Experiment
from bench.peers.in_dram import Fbgemm, Tieralloc, TierallocWithPolicy, Torch
from bench.peers.results import Result
from bench.peers.serving import Served
from bench.peers.workloads import TRACES
from bench.scenery.turns import Spread, alternate, ratios
from tieralloc.tools.machine import core_count

_KINDS = (Tieralloc, TierallocWithPolicy, Torch, Fbgemm)
_RECORDING = "recording accesses"
#: Accesses that the recorder keeps; it counts the later ones.
_MAX_RECORDED = 1 << 20


def run(experiment: Experiment) -> Iterator[Result]:
    for workload in experiment.workloads("a", "b", *TRACES):
        # Without an unused row the fast tier has all rows, and the policy is not notified.
        kinds = [kind for kind in _KINDS if workload.unused_rows or kind is not TierallocWithPolicy]
        with experiment.adapters(kinds, workload) as adapters:
            for threads in range(1, min(2, core_count()) + 1):
                what = f"{workload.name}, {_count(threads)}"
                target = 1.0 if workload.unused_rows else None
                yield from _compare(experiment, what, adapters, threads, target)


def _compare(
    experiment: Experiment, what: str, adapters: list[Adapter], threads: int, target: float | None
) -> Iterator[Result]:
    settings = experiment.settings
    measures: dict[str, Callable[[int], Served]] = {}
    for adapter in adapters:
        serve = partial(adapter.serve_repeatedly, seconds=settings.seconds)
        measures[adapter.name] = partial(serve, callers=threads)
        if isinstance(adapter, Tieralloc):
            name = f"{adapter.name}, {_RECORDING}"
            measures[name] = partial(_record, adapter, settings.seconds, threads)
        elif threads > 1:
            measures[f"{adapter.name}, threads within calls"] = partial(serve, within=threads)
    speeds = {
        name: [served.rows_per_second for served in turns]
        for name, turns in alternate(f"hits {what}", settings.turns, measures).items()
    }
    medians = {name: Spread.of(values).median for name, values in speeds.items()}
    for adapter in adapters:
        lookups, misses = adapter.misses() or (0, 0)
        if misses:
            raise BaselineFailedError(f"{adapter.name}: {misses} of {lookups} rows missed, not 0")
    ways = [name for name in medians if name.startswith(Torch.name)]
    if not ways:
        yield Result(what, note="torch is needed")
        return
    best = max(ways, key=lambda name: medians[name])
    for name in measures:
        if name.startswith(Tieralloc.name):
            figures = {f"{each}, M rows/s": rate / 1e6 for each, rate in medians.items()}
            yield Result(
                f"{what}{name.removeprefix(Tieralloc.name)}",
                ratios(speeds[name], speeds[best]),
                min=target,
                figures=figures if name == Tieralloc.name else {},
            )


def _record(adapter: Adapter, seconds: float, threads: int, turn: int) -> Served:
    """Serve while the accesses are recorded."""
    assert isinstance(adapter, Tieralloc)
    with adapter.store.record(max_lookups=_MAX_RECORDED) as recorder:
        served = adapter.serve_repeatedly(turn, seconds, callers=threads)
    assert recorder.num_lookups > 0
    return served


def threads(experiment: Experiment) -> Iterator[Result]:
    """Compare several lookup threads with one."""
    settings, cores = experiment.settings, core_count()
    counts = sorted({*(1 << i for i in range(cores.bit_length())), cores})
    counts = [count for count in counts if count <= cores]
    if cores == 1:
        yield Result("2 threads", note="there is only one core")
        return
    for workload in experiment.workloads("a", "b"):
        with experiment.adapters([Tieralloc], workload) as (adapter,):
            measures = {
                _count(count): partial(
                    adapter.serve_repeatedly, seconds=settings.seconds, callers=count
                )
                for count in counts
            }
            turns = alternate(f"threads {workload.name}", settings.turns, measures)
        speeds = {name: [one.rows_per_second for one in served] for name, served in turns.items()}
        one = speeds[_count(1)]
        figures = {f"{name}, M rows/s": Spread.of(s).median / 1e6 for name, s in speeds.items()}
        for count in counts[1:]:
            name = _count(count)
            yield Result(
                f"{workload.name}, {name}",
                ratios(speeds[name], one),
                min=1.8 if count == 2 else None,
                figures=figures if count == 2 else {},
            )


def _count(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"
