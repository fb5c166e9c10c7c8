"""Line 3: hits and misses, against the peers that keep to the same DRAM."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.peers.bench import Bench
from bench.peers.findings import Finding, at_least, at_most
from bench.peers.kinds import PEERS
from bench.peers.loads import TRACE_KEYS, Load
from bench.peers.measure import Served, Spread, alternate, percentile, ratios
from bench.peers.peer import PeerFailedError

NUMBER = 3
TITLE = "Mixed: rows a second and p99 of a batch ÷ those of the best peer with the same DRAM"
FAST_FRACTIONS = (0.10, 0.05)


@dataclass
class Contender:
    """A peer at work, and what came of it."""

    name: str
    speeds: list[float]
    latencies: list[float]
    dram_bytes: int
    miss_ratio: float | None

    @property
    def p99(self) -> float:
        return percentile(self.latencies, 99)

    def __str__(self) -> str:
        misses = "" if self.miss_ratio is None else f", miss ratio {self.miss_ratio:.3f}"
        return (
            f"{Spread.of(self.speeds).median:,.0f} rows/s, p99 {self.p99 * 1e3:,.1f} ms of "
            f"{len(self.latencies)} batches{misses}, {self.dram_bytes / 2**20:,.1f} MiB"
        )


def run(bench: Bench) -> list[Finding]:
    findings = []
    for key in ("a", *TRACE_KEYS):
        load = bench.load(key)
        if load is None:
            continue
        for fraction in FAST_FRACTIONS:
            findings += _compare(bench, load, fraction)
    return findings


def _compare(bench: Bench, load: Load, fraction: float) -> list[Finding]:
    what = f"{load.name}, fast tier {fraction:.0%}"
    dataset = bench.dataset(load)
    budget = int(dataset.rows * fraction) * dataset.row_bytes
    with ExitStack() as opened:
        runners = []
        for key in (key for key, kind in PEERS.items() if kind.has_budget):
            try:
                runner = opened.enter_context(bench.open(key, load, budget))
            except PeerFailedError as error:
                bench.refuse(f"{key}, {what}", str(error))
                continue
            if runner is not None:
                runners.append(runner)
        with bench.steps(f"mixed {what}: warming up", len(runners)) as tick:
            for runner in runners:
                runner.warm(bench.settings.warm_seconds)
                tick()
        before = {runner.name: runner.misses() for runner in runners}
        serve = {
            runner.name: partial(runner.serve, seconds=bench.settings.slow_seconds)
            for runner in runners
        }
        with bench.steps(f"mixed {what}", len(runners) * bench.settings.rounds) as tick:
            results = alternate(bench.settings.rounds, serve, tick)
        contenders = [
            _contender(runner, results[runner.name], before[runner.name]) for runner in runners
        ]
    return _findings(what, contenders)


def _contender(runner: Any, served: list[Served], before: tuple[int, int] | None) -> Contender:
    miss_ratio = None
    after = runner.misses()
    if before is not None and after is not None:
        miss_ratio = (after[1] - before[1]) / max(1, after[0] - before[0])
    return Contender(
        runner.name,
        [one.rows_per_second for one in served],
        [latency for one in served for latency in one.latencies],
        runner.dram_bytes(),
        miss_ratio,
    )


def _findings(what: str, contenders: list[Contender]) -> list[Finding]:
    ours = next((one for one in contenders if one.name == "tieralloc"), None)
    peers = [one for one in contenders if one is not ours]
    figures: dict[str, float | str] = {f"{one.name}": str(one) for one in contenders}
    if ours is None or not peers:
        return [Finding(what, figures=figures, note="tieralloc and a peer are both needed")]
    fastest = max(peers, key=lambda one: Spread.of(one.speeds).median)
    steadiest = min(peers, key=lambda one: one.p99)
    p99_ratio = ours.p99 / steadiest.p99
    return [
        Finding(
            f"{what}: rows/s ÷ {fastest.name}",
            ratios(ours.speeds, fastest.speeds),
            at_least(5.0),
            figures=figures,
        ),
        Finding(
            f"{what}: p99 ÷ {steadiest.name}",
            Spread(p99_ratio, p99_ratio, p99_ratio, 1),
            at_most(1.0),
        ),
    ]
