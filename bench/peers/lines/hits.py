"""Line 1: everything resident, against torch with everything in DRAM."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from bench.peers.bench import Bench
from bench.peers.findings import Finding, at_least
from bench.peers.kinds.tiered import Tiered, TieredAndPolicy
from bench.peers.kinds.torch_dram import TorchDram
from bench.peers.loads import TRACE_KEYS, Load
from bench.peers.measure import Served, Spread, alternate, ratios
from bench.peers.peer import PeerFailedError
from bench.peers.runner import Runner
from tieralloc.tools.machine import core_count

NUMBER = 1
TITLE = "Hits: everything resident, rows a second ÷ those of torch all in DRAM"
PEERS = ("torch", "torch-huge", "fbgemm")
OURS, POLICY, RECORDING = Tiered.name, TieredAndPolicy.name, "recording accesses"
#: Accesses that the recorder keeps; it counts the others.
MAX_RECORDED = 1 << 20

Measure = Callable[[int], Served]


def run(bench: Bench) -> list[Finding]:
    findings = []
    for key in ("a", "b", *TRACE_KEYS):
        load = bench.load(key)
        if load is None:
            continue
        with ExitStack() as opened:
            found = [
                opened.enter_context(bench.open(name, load, None))
                for name in ("tieralloc", "tieralloc-policy", *PEERS)
                if load.unused_rows or name != "tieralloc-policy"
            ]
            runners = [runner for runner in found if runner is not None]
            for threads in (1, 2):
                if threads <= core_count():
                    findings += _compare(bench, load, runners, threads)
    return findings


def _compare(bench: Bench, load: Load, runners: list[Runner], threads: int) -> list[Finding]:
    what = f"{load.name}, {threads} thread{'s' if threads > 1 else ''}"
    contenders: dict[str, Measure] = {}
    of_torch = []
    for runner in runners:
        kinds = _contenders(runner, bench.settings.seconds, threads)
        contenders |= kinds
        if type(runner.peer) is TorchDram:
            of_torch = list(kinds)
    if OURS not in contenders or not of_torch:
        return [Finding(what, note="tieralloc and torch are both needed")]
    with bench.steps(f"hits {what}", bench.settings.rounds * len(contenders)) as tick:
        results = alternate(bench.settings.rounds, contenders, tick)
    for runner in runners:
        _check_all_hits(runner)
    speeds = {name: [one.rows_per_second for one in served] for name, served in results.items()}
    medians = {name: Spread.of(values).median for name, values in speeds.items()}
    best = max(of_torch, key=lambda name: medians[name])
    target = at_least(1.0) if load.unused_rows else None  # of real traces none is set
    figures: dict[str, float | str] = {
        f"{name}, M rows/s": value / 1e6 for name, value in medians.items()
    }
    found = [Finding(what, ratios(speeds[OURS], speeds[best]), target, figures=figures)]
    for name, how in (
        (f"{OURS}, {RECORDING}", RECORDING),
        (POLICY, "policy told"),
        (f"{POLICY}, {RECORDING}", f"policy told, {RECORDING}"),
    ):
        if name in speeds:
            found.append(Finding(f"{what}, {how}", ratios(speeds[name], speeds[best]), target))
    return found


def _contenders(runner: Runner, seconds: float, threads: int) -> dict[str, Measure]:
    """Ways to serve with so many threads: each a caller, or all within each call."""
    serve = partial(runner.serve_again_and_again, seconds=seconds)
    ways: dict[str, Measure] = {runner.name: partial(serve, callers=threads)}
    if isinstance(runner.peer, Tiered):
        ways[f"{runner.name}, {RECORDING}"] = partial(_record, runner, seconds, threads)
    elif threads > 1:
        ways[f"{runner.name}, threads within calls"] = partial(serve, within=threads)
    return ways


def _record(runner: Runner, seconds: float, threads: int, turn: int) -> Served:
    """Serve while a recorder keeps the accesses."""
    assert isinstance(runner.peer, Tiered)
    with runner.peer.store.record(max_lookups=MAX_RECORDED) as recorder:
        served = runner.serve_again_and_again(turn, seconds, callers=threads)
    assert recorder.num_lookups > 0
    return served


def _check_all_hits(runner: Runner) -> None:
    asked_and_missed = runner.misses()
    if asked_and_missed is not None and asked_and_missed[1] > 0:
        raise PeerFailedError(
            f"{runner.name} fetched {asked_and_missed[1]} of {asked_and_missed[0]} rows from the "
            "slow tier, expected all to be resident"
        )
