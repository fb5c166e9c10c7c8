"""A switch to another version under load, and the misses after it.

`python -m bench.switch` serves a trace at 5 % of its rows in DRAM, in an open loop at half of the
rate that two callers reach, once without and once with a switch after the other, in turns. Then,
for each policy, it counts the misses of the next lookups after a switch, beside a store that was
not switched. Learned policies are taken from --models.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

import tieralloc as ta
from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.results import rounded, to_columns, write_json
from bench.scenery.tables import markdown, number
from bench.scenery.traces import choose_traces
from bench.scenery.trained import train
from bench.scenery.turns import ratios
from tieralloc import trace as traces
from tieralloc.tools.replay.arrivals import poisson_arrivals
from tieralloc.tools.replay.callers import Call, serve
from tieralloc.trace.stream import count_distinct, fast_rows

POLICIES = ("lru", "s3fifo", "sieve", "clock", "lfu", "recmg-caching")
FRACTION = 0.05
BATCH_SIZE = 32
DIM = 64
LOOKUPS = 10_000
THREADS = 2
LOAD = 0.5
PAUSE_SECONDS = 0.1  # between switches
MISS_TURNS = 7  # a learned policy takes its steps beside the lookups
AFTER_SECONDS = 0.05  # counted as a part of a switch: the close of the former file


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser("switch", __doc__, disk=True, show=False)
    options = parser.parse_args(given)
    content: dict[str, Any] = about(arguments.public_command("switch", given), options.dir)
    with tempfile.TemporaryDirectory(prefix="tieralloc-switch-", dir=options.dir) as name:
        directory = Path(name)
        paths = choose_traces(options.traces, directory, quick=options.quick, num_samples=1 << 12)
        models = directory / "models" if options.quick else options.models
        chosen = [traces.read(path) for path in paths]
        turns, seconds = (2, 0.5) if options.quick else (16, 3.0)
        content["load"] = [load(trace, directory, turns, seconds) for trace in chosen[-1:]]
        content["misses"] = [
            misses(trace, directory, models, options.quick, policy)
            for trace in chosen
            for policy in POLICIES
        ]
    content = rounded(content)
    kept = {**content, "misses": to_columns(content["misses"])}
    for part in ("load", "misses"):
        head = [key.replace("_", " ") for key in content[part][0]]
        cells = [[_cell(value) for value in record.values()] for record in content[part]]
        print(f"\n{markdown(head, cells)}")
    out = arguments.out_directory(options)
    if out is not None:
        write_json(out / "switch.json", kept)
    return 0


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.4f}" if isinstance(value, float) and value < 1 else number(value)


def _open(trace: traces.Trace, path: Path, policy: Any = "s3fifo") -> ta.TieredStore:
    """Return a store of a new file, with 5 % of the trace's rows in DRAM."""
    distinct = count_distinct(trace.accesses(), int(trace.num_embeddings.sum()))
    slow = ta.File(path, mode="w", warm_restart_interval=None)
    store = ta.TieredStore(slow=slow, fast_rows=fast_rows(FRACTION, distinct), policy=policy)
    for name, rows in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True):
        store.create_table(name, rows, DIM)
    return store


def load(trace: traces.Trace, directory: Path, turns: int, seconds: float) -> dict[str, Any]:
    """Return the p99 of calls during switches, and of the same calls without."""
    paths = [directory / "load0.tier", directory / "load1.tier"]
    _open(trace, paths[1]).close()
    p99: dict[str, list[float]] = {"without": [], "with": []}
    during = switches = 0
    with _open(trace, paths[0]) as store:
        calls = [Call(None, *batch) for batch in trace.batches(BATCH_SIZE)]
        serve(store, calls[: len(calls) // 2], THREADS)
        measured = min(len(calls), 2000)
        rate = LOAD * measured / serve(store, calls[-measured:], THREADS).seconds
        count = int(rate * seconds)
        for turn in range(turns):
            arrivals = poisson_arrivals(count, rate, turn)
            at = turn * count % len(calls)
            section = list(islice(cycle(calls), at, at + count))
            without = serve(store, section, THREADS, arrivals=arrivals)
            with _Switcher(store, paths) as switcher:
                served = serve(store, section, THREADS, arrivals=arrivals)
            chosen = switcher.is_during(served.due)
            during += int(chosen.sum())
            switches += len(switcher.spans)
            for name, times in (("without", without), ("with", served)):
                p99[name].append(float(np.percentile(times.latencies[chosen], 99)) * 1e-3)
    compared = ratios(p99["with"], p99["without"])
    return {
        "trace": trace.name,
        "calls_per_second": rate,
        "switches": switches,
        "calls_during": during,
        "p99_us_without": float(np.median(p99["without"])),
        "p99_us_with": float(np.median(p99["with"])),
        "ratio": compared.median,
        "ratio_low": compared.low,
        "ratio_high": compared.high,
    }


class _Switcher:
    """A thread that switches a store to and fro while calls are served."""

    def __init__(self, store: ta.TieredStore, paths: Sequence[Path]) -> None:
        self.spans: list[tuple[int, int]] = []  # ns since the start
        self._store = store
        self._paths = paths
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Switcher:
        self._start = perf_counter_ns()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def is_during(self, due: np.ndarray) -> np.ndarray:
        """Return whether calls are due during a switch, or in the moment after it."""
        chosen = np.zeros(len(due), dtype=bool)
        for began, ended in self.spans:
            chosen |= (due >= began) & (due <= ended)
        return chosen

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            served = Path(self._store.stats().slow_tier.path)
            began = perf_counter_ns()
            self._store.switch(self._paths[self._paths.index(served) - 1])
            time.sleep(AFTER_SECONDS)
            self.spans.append((began - self._start, perf_counter_ns() - self._start))


def misses(
    trace: traces.Trace, directory: Path, models: Path, quick: bool, name: str
) -> dict[str, Any]:
    """Return median miss ratios of the first lookups after a switch, and without one."""
    policy: Any = name
    if name.startswith("recmg"):
        policy_directory, _ = train(trace, "recmg", models, epochs=1 if quick else None)
        policy = ta.LearnedPolicy(policy_directory, name=name, auto_pause=False)
    turns = [
        [_misses(trace, directory, policy, switches) for switches in (False, True)]
        for _ in range(1 if quick else MISS_TURNS)
    ]
    without, after = np.median(turns, axis=0).tolist()
    return {"trace": trace.name, "policy": name, "without": without, "after": after}


def _misses(trace: traces.Trace, directory: Path, policy: Any, switches: bool) -> float:
    half = trace.num_samples // 2
    _open(trace, directory / "next.tier").close()
    with _open(trace, directory / "first.tier", policy) as store:
        for batch in trace.samples(0, half).batches(BATCH_SIZE):
            store.embedding_bag(*batch)
        if switches:
            store.switch(directory / "next.tier")
        store.reset_stats()
        for batch in trace.samples(half, trace.num_samples).batches(BATCH_SIZE):
            store.embedding_bag(*batch)
            if store.stats().lookups >= LOOKUPS:
                break
        return store.stats().miss_ratio


if __name__ == "__main__":
    sys.exit(main())
