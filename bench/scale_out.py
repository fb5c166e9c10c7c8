"""Ranks on one machine: even reads, bytes of an exchange, and time beside torchrec's own modules.

`python -m bench.scale_out` plans the shards of each trace from its first half. Then each rank
serves its share of the samples of each batch: the first half warms the fast tiers, of 5 % of the
distinct rows in whole; the second half is counted. Bytes are those of the loopback interface, also
headers of TCP and other programs'. The time is that of torchrec's row-wise and table-wise plan,
with all rows in DRAM, in turns; gloo. Ranks share the processors: nothing here tells of scaling.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import tieralloc as ta
from bench.scenery import arguments
from bench.scenery.processes import Child
from bench.scenery.tables import markdown, number, spread
from bench.scenery.traces import choose_traces
from bench.scenery.turns import ratios
from tieralloc import trace as traces
from tieralloc.tools.capacity import bytes_for
from tieralloc.trace.stream import count_distinct, fast_rows

FRACTION = 0.05
SAMPLES = 64  # of each rank in a batch
DIM = 64
TURNS = 15
CALLS = 50  # of a turn
PRELOADED = ["torchrec.distributed.sharding_plan", "tieralloc.distributed", "tieralloc.nn"]


def main(given: Sequence[str] | None = None) -> int:
    """Print a table per trace."""
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser("scale_out", __doc__, disk=True, show=False, models=False)
    parser.add_argument("--ranks", type=int, default=3, metavar="N", help="ranks (%(default)s)")
    options = parser.parse_args(given)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="tieralloc-ranks-", dir=options.dir) as name:
        paths = choose_traces(options.traces, Path(name), quick=options.quick, num_samples=1 << 12)
        for path in paths:
            folder = Path(name, path.stem)
            folder.mkdir()
            _report(path, _run(path, folder, options))
    return 0


def _run(path: Path, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    turns = 2 if options.quick else TURNS
    ranks = [
        Child(
            f"rank {rank}",
            serve,
            (rank, options.ranks, path, folder, turns),
            serves=False,
            preload=PRELOADED,
        )
        for rank in range(options.ranks)
    ]
    try:
        return [rank.receive() for rank in ranks]
    finally:
        for rank in ranks:
            rank.close()


def _report(path: Path, found: list[dict[str, Any]]) -> None:
    reads = np.array([rank["reads"] for rank in found])
    head = ["rank", "lookups", "device reads", "planned", "of the mean"]
    cells = [
        [
            str(place),
            number(rank["lookups"]),
            number(rank["reads"]),
            number(rank["planned"]),
            f"{rank['reads'] / reads.mean():.3f}",
        ]
        for place, rank in enumerate(found)
    ]
    print(f"\n{path.stem}: second half, in samples of all ranks per batch {len(found) * SAMPLES}\n")
    print(f"{markdown(head, cells)}\n")
    measured, payload = found[0]["bytes"], sum(rank["payload"] for rank in found)
    ratio = ratios(found[0]["ours"], found[0]["theirs"])
    ours, theirs = (1e6 * np.median(found[0][name]) for name in ("ours", "theirs"))
    lines = [
        ["bytes of a batch, all ranks: payload by plan", number(payload)],
        ["bytes of a batch on loopback", number(measured)],
        ["us of a batch, torchrec", number(theirs)],
        ["us of a batch, tieralloc", number(ours)],
        ["tieralloc / torchrec, median [quartiles]", spread(ratio)],
    ]
    print(markdown(["all rows in DRAM below the bytes", ""], lines))


def serve(rank: int, size: int, path: Path, folder: Path, turns: int) -> dict[str, Any]:
    """Serve a trace as one of the ranks; return what was measured."""
    import torch
    import torch.distributed as dist

    logging.getLogger("torchrec").setLevel(logging.ERROR)  # it has no caching parameters here
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size)
    trace = traces.read(path)
    with torch.no_grad():
        found = _count(trace, rank, size, folder) | _time(trace, rank, size, folder, turns)
    dist.destroy_process_group()
    return found


def _count(trace: traces.Trace, rank: int, size: int, folder: Path) -> dict[str, Any]:
    """Return reads of the second half, and bytes and collectives of a batch."""
    import torch.distributed as dist

    half = trace.num_samples // 2
    rows = int(trace.num_embeddings.sum())
    fast = fast_rows(FRACTION, count_distinct(trace.accesses(), rows))
    budget = bytes_for(max(1, fast // size), rows // size, DIM)
    plan = ta.distributed.plan(
        trace.samples(0, half),
        [ta.distributed.RankLimits(budget)] * size,
        embedding_dim=DIM,
        batch_size=size * SAMPLES,
    )
    slow = ta.File(folder / f"{rank}.tier", warm_restart_interval=None)
    with ta.TieredStore(slow=slow, fast_rows=plan.ranks[rank]["fast_rows"]) as store:
        module = ta.distributed.ShardedTieredEmbeddingBagCollection(
            _configs(trace), plan.sharding, store
        )
        for batch in _batches(trace.samples(0, half), rank, size):
            module(batch)
        batches = _batches(trace.samples(half, trace.num_samples), rank, size)
        store.reset_stats()
        dist.barrier()
        before = psutil.net_io_counters(pernic=True)["lo"].bytes_sent
        for batch in batches:
            module(batch)
        dist.barrier()
        sent = psutil.net_io_counters(pernic=True)["lo"].bytes_sent - before
        stats = store.stats()
    samples = trace.num_samples - half
    return {
        "lookups": stats.lookups,
        "reads": stats.on_demand_device_reads,
        "planned": round(samples * plan.ranks[rank]["reads_per_sample"]),
        "bytes": sent / len(batches),
        "payload": sum(_payload(plan, batch, rank, size) for batch in batches) / len(batches),
    }


def _configs(trace: traces.Trace) -> list[Any]:
    from torchrec import EmbeddingBagConfig

    return [
        EmbeddingBagConfig(name=name, embedding_dim=DIM, num_embeddings=rows, feature_names=[name])
        for name, rows in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True)
    ]


def _batches(trace: traces.Trace, rank: int, size: int) -> list[Any]:
    """Return this rank's samples of whole batches of all ranks."""
    import torch
    from torchrec import KeyedJaggedTensor

    batches = []
    for first in range(0, trace.num_samples - size * SAMPLES + 1, size * SAMPLES):
        begin = first + rank * SAMPLES
        part = trace.samples(begin, begin + SAMPLES)
        batches.append(
            KeyedJaggedTensor(
                keys=trace.table_names,
                values=torch.from_numpy(part.indices.copy()),
                lengths=torch.from_numpy(part.lengths.ravel().copy()),
            )
        )
    return batches


def _payload(plan: Any, batch: Any, rank: int, size: int) -> int:
    """Return the bytes that a rank sends to the others for a batch, by the plan."""
    total = (size - 1) * 3 * 8  # sizes
    for name, values in zip(batch.keys(), _split(batch), strict=True):
        for shard in plan.shards[name]:
            if shard.rank == rank:
                total += (size - 1) * SAMPLES * DIM * 4
            else:
                inside = (values >= shard.first) & (values < shard.last)
                total += 8 * int(inside.sum()) + 4 * SAMPLES
    return total


def _split(batch: Any) -> list[Any]:
    return list(batch.values().split(batch.length_per_key()))


def _time(
    trace: traces.Trace, rank: int, size: int, folder: Path, turns: int
) -> dict[str, list[float]]:
    """Return seconds of a batch of both modules, in turns."""
    import torch.distributed as dist

    tables = _configs(trace)
    plan, theirs = _torchrec(tables, size)
    slow = ta.File(folder / f"{rank}-dram.tier", warm_restart_interval=None)
    rows = int(trace.num_embeddings.sum())
    with ta.TieredStore(slow=slow, fast_rows=rows) as store:
        ours = ta.distributed.ShardedTieredEmbeddingBagCollection(tables, plan, store)
        for table in ours.tables.values():
            table.lookup(np.arange(len(table)))  # resident from now on
        batches = _batches(trace, rank, size)[:CALLS]
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        measures = {"ours": ours, "theirs": lambda batch: theirs(batch).values()}
        for turn in range(turns + 1):
            for name in sorted(measures, reverse=bool(turn % 2)):
                dist.barrier()
                start = time.perf_counter()
                for batch in batches:
                    measures[name](batch)
                times[name].append((time.perf_counter() - start) / len(batches))
    return {name: each[1:] for name, each in times.items()}  # the first turn warms up


def _torchrec(tables: list[Any], size: int) -> tuple[Any, Any]:
    """Return a plan, the largest table row-wise, and torchrec's own module of it."""
    import torch
    import torch.distributed as dist
    from torchrec import EmbeddingBagCollection
    from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
    from torchrec.distributed.sharding_plan import (
        construct_module_sharding_plan,
        row_wise,
        table_wise,
    )
    from torchrec.distributed.types import ShardingEnv

    largest = max(tables, key=lambda table: int(table.num_embeddings))
    shardings = {
        table.name: row_wise() if table is largest else table_wise(rank=number % size)
        for number, table in enumerate(tables)
    }
    collection = EmbeddingBagCollection(tables=tables)
    plan = construct_module_sharding_plan(
        collection, shardings, local_size=size, world_size=size, device_type="cpu"
    )
    env = ShardingEnv.from_process_group(dist.distributed_c10d._get_default_group())
    module = ShardedEmbeddingBagCollection(collection, plan, env, device=torch.device("cpu"))
    return plan, module


if __name__ == "__main__":
    sys.exit(main())
