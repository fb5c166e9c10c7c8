"""N processes with a store each, beside N threads of one process with one store.

`python -m bench.processes` serves the calls of a trace from one read-only file: call i goes to
worker i modulo N. Each store has 5 % of the trace's rows in DRAM. The memory is that of the
workers after the last call: their fast tiers, and their resident memory without shared pages. The
miss ratio is that of the second half of the trace.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

import tieralloc as ta
from bench.scenery import arguments
from bench.scenery.tables import markdown, number
from bench.scenery.traces import choose_traces
from tieralloc import trace as traces
from tieralloc.trace.stream import count_distinct, fast_rows

WORKERS = (1, 2, 4)
FRACTION = 0.05
BATCH_SIZE = 32
DIM = 64


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser("processes", __doc__, disk=True, show=False)
    options = parser.parse_args(given)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="tieralloc-processes-", dir=options.dir) as name:
        directory = Path(name)
        trace = choose_traces(options.traces, directory, quick=options.quick, num_samples=1 << 12)[
            -1
        ]
        path = directory / "shared.tier"
        _write(traces.read(trace), path)
        cells = []
        for workers in WORKERS:
            for processes, threads in dict.fromkeys([(1, workers), (workers, 1)]):
                results = _run(context, path, trace, processes, threads)
                cells.append([str(processes), str(threads), *_summed(results)])
    head = ["processes", "threads of each", "fast tiers, MB", "resident memory, MB", "miss ratio"]
    print(f"\n{markdown(head, cells)}")
    return 0


def _write(trace: traces.Trace, path: Path) -> None:
    with ta.TieredStore(path, mode="w", fast_rows=1) as store:
        for name, rows in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True):
            store.create_table(name, rows, DIM)


def _summed(results: list[tuple[int, int, int, int]]) -> list[str]:
    dram, private, lookups, fetches = (sum(column) for column in zip(*results, strict=True))
    return [number(dram / 1e6), number(private / 1e6), f"{fetches / lookups:.3f}"]


def _run(
    context: Any, path: Path, trace: Path, processes: int, threads: int
) -> list[tuple[int, int, int, int]]:
    """Return DRAM, resident memory, lookups and misses of each process."""
    results = context.Queue()
    together = context.Barrier(processes)
    children = [
        context.Process(
            target=_serve, args=(path, trace, worker, processes, threads, together, results)
        )
        for worker in range(processes)
    ]
    for child in children:
        child.start()
    found = [results.get(timeout=600) for _ in children]
    for child in children:
        child.join()
    return found


def _serve(
    path: Path, trace_path: Path, worker: int, processes: int, threads: int, together: Any, out: Any
) -> None:
    """Serve every `processes`-th call from a store of this process."""
    trace = traces.read(trace_path)
    rows = fast_rows(FRACTION, count_distinct(trace.accesses(), int(trace.num_embeddings.sum())))
    slow = ta.File(path, mode="r", warm_restart_interval=None)
    half = trace.num_samples // 2
    with ta.TieredStore(slow=slow, fast_rows=rows) as store:

        def serve(calls: list[Any], first: int) -> None:
            for call in calls[first::threads]:
                store.embedding_bag(*call)

        for begin, end in ((0, half), (half, trace.num_samples)):
            store.reset_stats()
            calls = list(trace.samples(begin, end).batches(BATCH_SIZE))[worker::processes]
            callers = [threading.Thread(target=serve, args=(calls, at)) for at in range(threads)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
        stats = store.stats()
        private = psutil.Process().memory_full_info().uss
        together.wait()
        out.put((stats.dram.total_bytes, private, stats.lookups, stats.on_demand_fetches))


if __name__ == "__main__":
    sys.exit(main())
