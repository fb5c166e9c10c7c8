"""Measures the CPU time of whole replays: our policies beside libcachesim's 3L-Cache.

Each round replays the same accesses once per contender, in turn: ours by `simulate`, 3L-Cache and
LRU of libcachesim natively from an oracleGeneral file. The figure is the median over the rounds, in
CPU time of the process; loading policies and constructing caches is excluded. Ours includes what
`simulate` does first, listing accesses and counting rows; theirs includes reading the file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.machine import version_of
from bench.policies import foreign, results
from bench.policies.__main__ import FAST_FRACTIONS, TRACES, traces_in
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc.policy.registry import with_learned
from tieralloc.policy.trained import TrainedPolicy
from tieralloc.tools import machine as _machine
from tieralloc.tools.simulate import simulate

BASELINE, FLOOR = "3L-Cache", "lru of libcachesim"
NATIVE = {BASELINE: "ThreeLCache", FLOOR: "LRU"}  # class of the package, by label
POLICIES = "lru,s3fifo,recmg-caching:DIR,recmg:DIR"

Replay = Callable[[], tuple[float, float]]  # returns CPU seconds and the miss ratio of all accesses
_PATIENCE = 2.0  # seconds between signs of progress within a replay


def replay_native(kind: str, file: Path, rows: int) -> tuple[float, float]:
    """Replay an oracleGeneral file, with objects of size 1, through a cache of libcachesim."""
    import libcachesim

    # The default table of 2^24 buckets is page faults above all: LRU takes 4 times as long with it.
    cache = getattr(libcachesim, kind)(cache_size=rows, hashpower=max(16, rows.bit_length() + 1))
    reader = libcachesim.TraceReader(str(file), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    began = time.process_time()
    miss_ratio, _ = cache.process_trace(reader)
    return time.process_time() - began, miss_ratio


def replay_ours(
    made: traces.Trace, policy: str | TrainedPolicy, fraction: float
) -> tuple[float, float]:
    shown = time.monotonic()

    def progress(_: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > _PATIENCE:
            print(".", end="", flush=True)
            shown = time.monotonic()

    began = time.process_time()
    (record,) = simulate(made, [policy], [fraction], count_from=0, progress=progress)
    return time.process_time() - began, record["miss_ratio"]


def measure_trace(
    made: traces.Trace, policies: Mapping[str, str | TrainedPolicy], repeat: int
) -> Iterator[dict[str, Any]]:
    """Yield a record per capacity and contender."""
    num_accesses = made.num_lookups
    with tempfile.TemporaryDirectory(prefix="tieralloc-cost-") as temporary:
        file = Path(temporary) / "trace.oracleGeneral"
        traces.write(made, file)
        for expected in simulate(made, ["lru"], FAST_FRACTIONS, count_from=0):
            fraction, rows = expected["fast_fraction"], expected["fast_rows"]
            replays: dict[str, Replay] = {}
            for label, kind in NATIVE.items():
                replays[label] = partial(replay_native, kind, file, rows)
            for label, policy in policies.items():
                replays[label] = partial(replay_ours, made, policy, fraction)
            seconds: dict[str, list[float]] = {label: [] for label in replays}
            miss_ratios = {}
            for turn in range(repeat):
                for label, replay in replays.items():
                    place = f"{made.name} {fraction:.0%}, round {turn + 1} of {repeat}"
                    print(f"{place}, {label}: ", end="", flush=True)
                    cpu_seconds, miss_ratios[label] = replay()
                    seconds[label].append(cpu_seconds)
                    print(f"{cpu_seconds / num_accesses * 1e6:.3f} µs an access", flush=True)
            if abs(miss_ratios[FLOOR] - expected["miss_ratio"]) * num_accesses > 0.5:
                raise ValueError(
                    f"{made.name} at {fraction:.0%}: libcachesim's LRU and ours miss differently;"
                    f" expected {expected['miss_ratio']}, got {miss_ratios[FLOOR]}"
                )
            for label in replays:
                yield {
                    "machine": _machine.describe(),
                    "trace": made.name,
                    "fast_fraction": fraction,
                    "fast_rows": rows,
                    "policy": label,
                    "accesses": num_accesses,
                    "miss_ratio": miss_ratios[label],
                    "cpu_seconds": seconds[label],
                    "us_per_access": median(seconds[label]) / num_accesses * 1e6,
                    "ratio": median(seconds[label]) / median(seconds[BASELINE]),
                }


def table(records: Sequence[Mapping[str, Any]], options: str) -> str:
    """Lay out a line per trace and capacity, then the mean and the max of the ratios."""
    ratios: dict[str, list[float]] = {}
    cells: dict[tuple[str, float], list[str]] = {}
    for record in records:
        ratios.setdefault(record["policy"], []).append(record["ratio"])
        cell = f"{record['us_per_access']:.3f} ({record['ratio']:.3f})"
        cells.setdefault((record["trace"], record["fast_fraction"]), []).append(cell)
    lines = [line(["trace", "capacity", *ratios]), line(["---", *["---:"] * (1 + len(ratios))])]
    lines += [line([name, f"{fraction:.0%}", *row]) for (name, fraction), row in cells.items()]
    for label, of in (("mean ratio", mean), ("max ratio", max)):
        lines.append(line([label, "", *(f"{of(each):.3f}" for each in ratios.values())]))
    return (
        "# CPU time of a replay beside 3L-Cache\n\n"
        f"µs of CPU time per access, whole replay; in brackets the ratio to {BASELINE}. Capacity is"
        f" a share of the distinct rows. `python -m bench.policies.cost {options}`. libcachesim"
        f" {version_of(foreign.PACKAGE)}. {_machine.describe()}\n\n" + "\n".join(lines) + "\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.policies.cost", description=__doc__)
    parser.add_argument("--traces", type=Path, default=TRACES, help="a directory, or a file")
    parser.add_argument(
        "--policies", default=POLICIES, help="comma-separated; :DIR is MODELS/TRACE (%(default)s)"
    )
    parser.add_argument("--models", type=Path, help="holds a directory of policies per trace name")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="where the table goes")
    parser.add_argument("--json", action="store_true", help="write the records beside --out")
    options = parser.parse_args(arguments)
    if options.repeat < 1 or (options.json and options.out is None):
        parser.error("--repeat is at least 1, and --json needs --out")
    if options.models is None and ":DIR" in options.policies:
        parser.error("--policies: a policy names DIR; give --models, or its directory")
    replayed = [traces.read(path) for path in traces_in(options.traces)]
    if foreign.refusal() or not replayed:
        parser.error(foreign.refusal() or f"--traces: no trace in {options.traces}")
    # All policies are loaded first, so that a missing one is reported before the long part.
    loaded = [_load(options.policies, options.models, made) for made in replayed]
    records = [
        record
        for made, policies in zip(replayed, loaded, strict=True)
        for record in measure_trace(made, policies, options.repeat)
    ]
    text = table(records, f"--policies {options.policies} --repeat {options.repeat}")
    print(f"\n{text}")
    if options.out is not None:
        options.out.write_text(text)
    if options.json:
        results.write_json(records, options.out.with_suffix(".json"))
    return 0


def _load(named: str, models: Path | None, made: traces.Trace) -> dict[str, str | TrainedPolicy]:
    """Load the policies of a trace, by label."""
    loaded = with_learned(named.replace(":DIR", f":{models}/{made.name}").split(","))
    return {p if isinstance(p, str) else p.name: p for p in loaded}


if __name__ == "__main__":
    sys.exit(main())
