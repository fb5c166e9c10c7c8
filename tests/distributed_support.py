"""Groups of ranks as processes, and the functions that they run: a case of the sharded modules."""

import multiprocessing
import os
import socket
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np

DIM = 4
#: Ranks are forks of a process that has these modules: torch takes seconds to start.
PRELOADED = ["torchrec.distributed.sharding_plan", "tieralloc.distributed", "tieralloc.nn"]


@dataclass(frozen=True)
class TableSpec:
    """A table, and its shards as (rank, first row, last row)."""

    name: str
    rows: int
    features: tuple
    shards: tuple
    mode: str = "sum"
    dtype: str = "float32"
    dim: int = DIM


@dataclass(frozen=True)
class Case:
    """Tables and the batches of each rank: per feature a list of bags."""

    tables: tuple
    batches: tuple  # of each rank: of each batch: feature to bags
    weighted: bool = False
    pooled: bool = True
    options: dict = field(default_factory=dict)


def rows_of(table):
    """Return the rows of a table: the same in each process."""
    values = np.random.default_rng(table.rows).standard_normal((table.rows, table.dim))
    return values.astype(np.float16 if table.dtype == "float16" else np.float32)


def configs_of(tables, pooled=True):
    from torchrec.modules.embedding_configs import (
        DataType,
        EmbeddingBagConfig,
        EmbeddingConfig,
        PoolingType,
    )

    kind = EmbeddingBagConfig if pooled else EmbeddingConfig
    types = {
        "float32": DataType.FP32,
        "float16": DataType.FP16,
        "bfloat16": DataType.BF16,
        "int8": DataType.INT8,
    }
    modes = {"sum": PoolingType.SUM, "mean": PoolingType.MEAN}
    return [
        kind(
            name=table.name,
            num_embeddings=table.rows,
            embedding_dim=table.dim,
            feature_names=list(table.features),
            data_type=types[table.dtype],
            **({"pooling": modes[table.mode]} if pooled else {}),
        )
        for table in tables
    ]


def plan_of(tables):
    from tieralloc.distributed._shards import Shard, parameter_sharding

    return {
        table.name: parameter_sharding([Shard(*shard) for shard in table.shards], table.dim)
        for table in tables
    }


def jagged(batch, weighted=False, *, narrow=False):
    """Return a KeyedJaggedTensor of feature to bags; `narrow`: other integer types."""
    import torch
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

    bags = [bag for feature in batch.values() for bag in feature]
    values = [row for bag in bags for row in bag]
    generator = torch.Generator().manual_seed(len(values))
    return KeyedJaggedTensor(
        keys=list(batch),
        values=torch.tensor(values, dtype=torch.int32 if narrow else torch.int64),
        lengths=torch.tensor(list(map(len, bags)), dtype=torch.int64 if narrow else torch.int32),
        weights=torch.rand(len(values), generator=generator) if weighted else None,
        stride=len(next(iter(batch.values()))),
    )


def sharded(case, path, rank, **options):
    """Return this rank's module on a store of a file, with its rows loaded."""
    import tieralloc as ta

    slow = ta.File(path, mode="a", warm_restart_interval=None)
    store = ta.TieredStore(slow=slow, fast_rows=8 + len(case.tables))
    kind = (
        ta.distributed.ShardedTieredEmbeddingBagCollection
        if case.pooled
        else ta.distributed.ShardedTieredEmbeddingCollection
    )
    if case.weighted:
        options["is_weighted"] = True
    try:
        module = kind(
            configs_of(case.tables, case.pooled),
            plan_of(case.tables),
            store,
            **{**case.options, **options},
        )
    except BaseException:
        store.close()
        raise
    for table in case.tables:
        for owner, first, last in table.shards:  # all rows on all ranks if it is replicated
            if owner == rank and "checkpoint" not in options:
                module.tables[table.name].load(rows_of(table)[first:last])
    return store, module


def as_arrays(result):
    """Return a result as arrays, by key."""
    if isinstance(result, dict):
        return {name: part.values().numpy() for name, part in result.items()}
    return {name: part.numpy() for name, part in result.to_dict().items()}


def serve(rank, case):
    """Return the results of this rank's batches, by `forward` and by `stream`."""
    import torch.distributed as dist

    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        options = {"group": dist.group.WORLD, "timeout": 20}
        store, module = sharded(case, Path(folder) / "shards.tier", rank, **options)
        with store:
            narrow = rank % 2 == 1  # ranks may have other integer types
            batches = [jagged(each, case.weighted, narrow=narrow) for each in case.batches[rank]]
            one_by_one = [as_arrays(module(batch)) for batch in batches]
            streamed = [as_arrays(result) for result in module.stream(batches)]
    return one_by_one, streamed


def memory():
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Ranks:
    """Processes of a group, which run functions together: `run(function, *arguments)`."""

    def __init__(self, size, timeout=20.0, *, tcp=False):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._folder = tempfile.TemporaryDirectory(dir=memory())
        rendezvous = f"file://{self._folder.name}/rendezvous"
        if tcp:  # rank 0 hosts the store
            with socket.create_server(("127.0.0.1", 0)) as server:
                rendezvous = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        self.pipes, self.processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            arguments = (rank, size, rendezvous, timeout, theirs)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def begin(self, function, *arguments):
        """Begin a call on each rank."""
        for pipe in self.pipes:
            pipe.send((function, arguments))

    def result(self, rank):
        """Return a rank's result; raise its error."""
        outcome, value = self.pipes[rank].recv()
        if outcome == "error":
            raise AssertionError(f"rank {rank}: {value}")
        return value

    def run(self, function, *arguments):
        """Return the result of each rank."""
        self.begin(function, *arguments)
        return [self.result(rank) for rank in range(len(self.pipes))]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(5)
            process.kill()
            process.join()
        self._folder.cleanup()


def _work(rank, size, rendezvous, timeout, pipe):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=rendezvous,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=timeout),
    )
    while True:
        try:
            function, arguments = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # a group with a dead rank may not end otherwise
        try:
            pipe.send(("result", function(rank, *arguments)))
        except Exception:
            pipe.send(("error", traceback.format_exc()))


FAILING_TABLES = (
    TableSpec("item", 20, ("item",), ((0, 0, 9), (1, 9, 15), (2, 15, 20))),
    TableSpec("user", 8, ("user",), ((1, 0, 8),)),
    TableSpec("city", 8, ("city",), ((2, 0, 8),)),
)
FAILING_BATCH = {"item": [[0, 13, 19], []], "user": [[7, 7, 1], [2]], "city": [[], [3, 5]]}
FAILING = Case(FAILING_TABLES, ())
TIMEOUT = 3.0
HANG = 60  # seconds after which a rank counts as hung, far above twice the timeout


def serve_until_failure(rank, folder):
    """Serve the same batch until a rank fails; return the ranks that the error names, its text."""
    from tieralloc.distributed import RankError

    store, module = sharded(FAILING, Path(folder) / f"{rank}.tier", rank, timeout=TIMEOUT)
    batch = jagged(FAILING_BATCH)
    expected = as_arrays(module(batch))
    (Path(folder) / f"ready-{rank}").touch()
    wrong = 0
    try:
        while True:
            for result in module.stream([batch] * 5):
                found = as_arrays(result)
                wrong += not all(np.array_equal(found[key], expected[key]) for key in expected)
    except RankError as error:
        first = error
    try:
        module(batch)
        wrong += 1  # a failed module serves nothing
    except RankError as error:
        store.close()
        return error.ranks, str(first), wrong


def fail_rank(folder, victim, number, delay, **options):
    """Serve on three ranks, and send a signal to one; return the results of the others."""
    with Ranks(3, **options) as ranks:
        ranks.begin(serve_until_failure, folder)
        while len(list(folder.glob("ready-*"))) < 3:
            time.sleep(0.01)
            assert all(process.is_alive() for process in ranks.processes)
        time.sleep(delay)
        os.kill(ranks.processes[victim].pid, number)
        results = []
        for rank in {0, 1, 2} - {victim}:
            assert ranks.pipes[rank].poll(HANG), f"rank {rank} hangs"
            results.append(ranks.result(rank))
        ranks.processes[victim].kill()
    return results
