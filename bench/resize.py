"""A budget changed while threads look rows up: the longest pause, the memory, the rows that stay.

Rows of 256 bytes, twice as many as the larger budget holds, in a file of holes. The fast tier is
full. A thread looks up 256 resident rows a call, while the budget falls to a half and rises again;
another one looks up rows of a table that lies in DRAM as a whole, which only the pause holds up.

    python -m bench.resize --fast-bytes 1GiB --seconds 3
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

import tieralloc as ta
from tieralloc._common.numbers import parse_size

ROW_BYTES, ROWS_PER_CALL, SMALL_ROWS = 256, 256, 1000


class Caller(threading.Thread):
    """Looks rows up and notes how long each call takes."""

    def __init__(self, table: ta.Table, rows: np.ndarray, seed: int) -> None:
        super().__init__()
        self.table, self.rows = table, rows
        self.random = np.random.default_rng(seed)
        self.ends: list[float] = []
        self.seconds: list[float] = []
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            wanted = self.random.choice(self.rows, ROWS_PER_CALL)
            began = time.perf_counter()
            self.table.lookup(wanted)
            ended = time.perf_counter()
            self.ends.append(ended)
            self.seconds.append(ended - began)


def latency_ms(caller: Caller, began: float, ended: float) -> dict[str, float]:
    """p50, p99 and max of the calls that ended in a span of time."""
    ends, seconds = np.array(caller.ends), np.array(caller.seconds)
    part = seconds[(ends >= began) & (ends < ended)] * 1e3
    p50, p99 = np.percentile(part, [50, 99])
    return {"p50": round(p50, 3), "p99": round(p99, 3), "max": round(float(part.max()), 2)}


def latencies(callers: list[Caller], began: float, ended: float) -> dict[str, object]:
    """Latencies of both threads."""
    moved, small = (latency_ms(caller, began, ended) for caller in callers)
    return {"latency_ms": moved, "resident_table_latency_ms": small}


class MemorySampler(threading.Thread):
    """The largest resident set of the process until it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.peak, self.stopped = 0, False

    def run(self) -> None:
        while not self.stopped:
            self.peak = max(self.peak, psutil.Process().memory_info().rss)
            time.sleep(0.005)


def measure(store: ta.TieredStore, callers: list[Caller], size: int) -> dict[str, object]:
    """Resize once."""
    before = psutil.Process().memory_info().rss
    store.reset_stats()
    sampler = MemorySampler()
    sampler.start()
    began = time.perf_counter()
    store.resize(fast_bytes=size)
    ended = time.perf_counter()
    sampler.stopped = True
    sampler.join()
    stats = store.stats()
    return {
        "fast_bytes": size,
        "seconds": round(ended - began, 2),
        **latencies(callers, began, ended),
        "resident_rows": stats.fast_tier.resident_rows,
        "on_demand_fetches": stats.on_demand_fetches,
        "rss_mib": [x >> 20 for x in (before, sampler.peak, psutil.Process().memory_info().rss)],
    }


def main() -> None:
    """Print a record per resize."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fast-bytes", default="1GiB", help="the larger budget")
    parser.add_argument("--policy", default="s3fifo")
    parser.add_argument("--seconds", type=float, default=2, help="between resizes")
    parser.add_argument("--folder", help="of the file; by default that of temporary files")
    arguments = parser.parse_args()
    size = parse_size(arguments.fast_bytes, "--fast-bytes")
    rows = 2 * size // ROW_BYTES
    with TemporaryDirectory(dir=arguments.folder) as folder:
        slow = ta.File(
            Path(folder, "new.tier"), mode="w", reserve=False, warm_restart_interval=None
        )
        with ta.TieredStore(slow=slow, fast_bytes=size, policy=arguments.policy) as store:
            table = store.create_table("item", rows, ROW_BYTES // 4, resident=False)
            small = store.create_table("small", SMALL_ROWS, ROW_BYTES // 4, resident=True)
            store.warm_up({"item": np.arange(rows)})
            kept = np.arange(rows - store.stats().fast_rows // 3, rows)
            callers = [Caller(table, kept, 0), Caller(small, np.arange(SMALL_ROWS), 1)]
            for caller in callers:
                caller.start()
            began = time.perf_counter()
            time.sleep(arguments.seconds)
            print(json.dumps(latencies(callers, began, time.perf_counter())))
            for next_size in (size // 2, size):
                print(json.dumps(measure(store, callers, next_size)), flush=True)
                time.sleep(arguments.seconds)
            for caller in callers:
                caller.stopped = True
                caller.join()


if __name__ == "__main__":
    main()
