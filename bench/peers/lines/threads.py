"""Line 5: what more lookup threads give, everything resident."""

from __future__ import annotations

from functools import partial

from bench.peers.bench import Bench
from bench.peers.findings import Finding, at_least
from bench.peers.measure import Spread, alternate, ratios
from tieralloc.tools.machine import core_count

NUMBER = 5
TITLE = "Threads: rows a second of several lookup threads ÷ those of one"


def run(bench: Bench) -> list[Finding]:
    findings = []
    for key in ("a", "b"):
        load = bench.load(key)
        assert load is not None
        with bench.open("tieralloc", load, None) as runner:
            if runner is None:
                return [Finding("tieralloc", note="not among the chosen peers")]
            counts = _counts(core_count())
            contenders = {
                str(count): partial(
                    runner.serve_again_and_again, seconds=bench.settings.seconds, callers=count
                )
                for count in counts
            }
            total = bench.settings.rounds * len(counts)
            with bench.steps(f"threads {load.name}", total) as tick:
                results = alternate(bench.settings.rounds, contenders, tick)
        speeds = {
            count: [served.rows_per_second for served in results[str(count)]] for count in counts
        }
        findings += [
            Finding(
                f"{load.name}, {count} threads",
                ratios(speeds[count], speeds[1]),
                at_least(1.8) if count == 2 else None,
                figures={
                    "1 thread, M rows/s": Spread.of(speeds[1]).median / 1e6,
                    f"{count} threads, M rows/s": Spread.of(speeds[count]).median / 1e6,
                },
            )
            for count in counts[1:]
        ]
    return findings or [Finding("2 threads", note="there is only one core")]


def _counts(cores: int) -> list[int]:
    """Powers of two, and all cores."""
    counts = [1 << i for i in range(cores.bit_length()) if 1 << i <= cores]
    return counts if counts[-1] == cores else [*counts, cores]
