"""A restart at 5 % of the rows in DRAM: misses right after it, and the speed of the warm-up.

`python -m bench.restart` serves the first half of a trace, closes the store, opens it again, warm
or cold, and counts the misses of the next lookups, beside a store that was not closed. Then it
warms up a tier of a large table, and reads its file in order, in turns. Learned policies are taken
from --models.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tieralloc as ta
from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.results import rounded, write_json
from bench.scenery.tables import markdown, number
from bench.scenery.traces import choose_traces
from bench.scenery.trained import train
from bench.updates.scenarios import sequential_bytes_per_second
from tieralloc import trace as traces
from tieralloc.trace.stream import count_distinct, fast_rows

POLICIES = ("lru", "s3fifo", "sieve", "clock", "recmg-caching")
FRACTION = 0.05
BATCH_SIZE = 32
DIM = 64
LOOKUPS = 10_000
TURNS = 3
MISS_TURNS = 7  # a learned policy takes its steps beside the lookups
RESTARTS = ("none", "warm", "cold")


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    options = arguments.make_parser("restart", __doc__, disk=True, show=False).parse_args(given)
    content: dict[str, Any] = about(arguments.public_command("restart", given), options.dir)
    with tempfile.TemporaryDirectory(prefix="tieralloc-restart-", dir=options.dir) as name:
        directory = Path(name)
        paths = choose_traces(options.traces, directory, quick=options.quick, num_samples=1 << 12)
        models = directory / "models" if options.quick else options.models
        content["misses"] = [
            record for path in paths for record in misses(path, directory, models, options.quick)
        ]
        rows = 100_000 if options.quick else 4_000_000
        content["speed"] = [speed(directory, rows, share) for share in (0.05, 0.2)]
    content = rounded(content)
    for part in ("misses", "speed"):
        head = [key.replace("_", " ") for key in content[part][0]]
        cells = [[_cell(value) for value in record.values()] for record in content[part]]
        print(f"\n{markdown(head, cells)}")
    out = arguments.out_directory(options)
    if out is not None:
        write_json(out / "restart.json", content)
    return 0


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.4f}" if isinstance(value, float) and value < 1 else number(value)


def misses(path: Path, directory: Path, models: Path, quick: bool) -> list[dict[str, Any]]:
    """Return median miss ratios of the first lookups of the second half, by policy."""
    trace = traces.read(path)
    policy_directory, _ = train(trace, "recmg", models, epochs=1 if quick else None)
    distinct = count_distinct(trace.accesses(), int(trace.num_embeddings.sum()))
    rows = fast_rows(FRACTION, distinct)
    records = []
    for name in POLICIES:
        policy: Any = name
        if name.startswith("recmg"):
            policy = ta.LearnedPolicy(policy_directory, name=name, auto_pause=False)
        record: dict[str, Any] = {"trace": trace.name, "policy": name}
        file = directory / "restart.tier"
        turns = [
            [_misses_after(trace, file, rows, policy, restart) for restart in RESTARTS]
            for _ in range(1 if quick else MISS_TURNS)
        ]
        medians = np.median(turns, axis=0).tolist()
        records.append({**record, **dict(zip(RESTARTS, medians, strict=True))})
    return records


def _misses_after(trace: traces.Trace, path: Path, rows: int, policy: Any, restart: str) -> float:
    interval = 300.0 if restart == "warm" else None
    slow = ta.File(path, mode="w", warm_restart_interval=interval)
    store = ta.TieredStore(slow=slow, fast_rows=rows, policy=policy)
    for name, count in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True):
        store.create_table(name, count, DIM)
    half = trace.num_samples // 2
    for batch in trace.samples(0, half).batches(BATCH_SIZE):
        store.embedding_bag(*batch)
    if restart != "none":
        store.close()
        slow = ta.File(path, mode="r+", warm_restart_interval=interval)
        store = ta.TieredStore(slow=slow, fast_rows=rows, policy=policy)
        if restart == "warm" and not store._versions.current.wait(60):
            raise RuntimeError("the rows were not back after 60 s")
    with store:
        store.reset_stats()
        for batch in trace.samples(half, trace.num_samples).batches(BATCH_SIZE):
            store.embedding_bag(*batch)
            if store.stats().lookups >= LOOKUPS:
                break
        return store.stats().miss_ratio


def speed(directory: Path, rows: int, share: float) -> dict[str, Any]:
    """Return medians of a warm-up by random rows, and of a read of the file in order."""
    path = directory / "speed.tier"
    if not path.exists():
        with ta.TieredStore(path, mode="w", fast_rows=1) as store:
            part = np.ones((rows // 40, DIM), dtype=np.float32)
            store.create_table("table", rows, DIM).load(part for _ in range(40))
    chosen = np.random.default_rng(0).permutation(rows)[: int(rows * share)]
    samples = []
    for _ in range(TURNS):
        sequential = sequential_bytes_per_second(path)
        slow = ta.File(path, mode="r", warm_restart_interval=None)
        with ta.TieredStore(slow=slow, fast_rows=len(chosen)) as store:
            store.table("table").lookup([0])
            began, before = time.perf_counter(), _bytes_read()
            store.warm_up({"table": chosen})
            seconds = time.perf_counter() - began
            samples.append((len(chosen) / seconds, (_bytes_read() - before) / seconds, sequential))
    per_second, read, sequential = np.median(samples, axis=0).tolist()
    return {
        "share_of_rows": share,
        "rows_per_second": per_second,
        "mb_per_second": read / 1e6,
        "sequential_mb_per_second": sequential / 1e6,
        "ratio": float(np.median([sample[1] / sample[2] for sample in samples])),
    }


def _bytes_read() -> int:
    fields = Path("/proc/self/io").read_text().split()
    return int(fields[fields.index("read_bytes:") + 1])


if __name__ == "__main__":
    sys.exit(main())
