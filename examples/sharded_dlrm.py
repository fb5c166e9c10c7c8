"""Serve torchrec's DLRM with its tables sharded over ranks, each with a tiered store.

    pip install 'tieralloc[torch]' 'tensordict' 'torchmetrics==1.0.3' pyre-extensions
    pip install --no-deps torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0
    torchrun --standalone --nproc-per-node 2 examples/sharded_dlrm.py

Each rank plans the shards from the same trace, loads its own from the model's checkpoint, and
serves samples of its own. Rank 0 compares the clicks with the model in memory.
"""

import argparse
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.models.dlrm import DLRM

import tieralloc as ta
from tieralloc.trace import generate

DENSE, DIM, BATCH, BATCHES = 13, 16, 32, 20
COLLECTION = "sparse_arch.embedding_bag_collection"


def make_model(trace):
    """Return the DLRM over the tables of a trace: the same on all ranks."""
    torch.manual_seed(0)
    tables = [
        EmbeddingBagConfig(name=name, embedding_dim=DIM, num_embeddings=rows, feature_names=[name])
        for name, rows in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True)
    ]
    collection = EmbeddingBagCollection(tables=tables)
    return DLRM(collection, DENSE, [64, DIM], [64, 1]).eval(), tables


def make_batches(trace, rank, size):
    """Return dense and sparse features of this rank's samples."""
    batches = list(trace.batches(BATCH))[rank::size][:BATCHES]
    for number, (rows, offsets) in enumerate(batches):
        generator = torch.Generator().manual_seed(number * size + rank)
        sparse = KeyedJaggedTensor(
            keys=trace.table_names,
            values=torch.from_numpy(rows),
            lengths=torch.from_numpy(offsets).diff(),
        )
        yield torch.rand(BATCH, DENSE, generator=generator), sparse


def main(folder):
    """Serve batches on this rank."""
    rank, size = dist.get_rank(), dist.get_world_size()
    trace = generate(num_samples=2 * size * BATCH * BATCHES, num_tables=4)
    model, tables = make_model(trace)
    checkpoint = folder / "model.pt"
    if rank == 0:
        torch.save(model.state_dict(), checkpoint)
    dist.barrier()
    batches = list(make_batches(trace, rank, size))
    with torch.no_grad():
        expected = [model(dense, sparse) for dense, sparse in batches]

    # The lines of ours: a plan, a store, and the sharded module in the place of torchrec's.
    plan = ta.distributed.plan(
        trace, [ta.distributed.RankLimits("256KiB")] * size, embedding_dim=DIM, batch_size=BATCH
    )
    store = ta.TieredStore(folder / f"rank{rank}.tier", fast_bytes="256KiB")
    sharded = ta.distributed.ShardedTieredEmbeddingBagCollection(
        tables, plan.sharding, store, checkpoint=checkpoint, prefix=COLLECTION
    )
    model.sparse_arch.embedding_bag_collection = sharded

    with torch.no_grad():
        clicks = [model(dense, sparse) for dense, sparse in batches]
    error = max(float((a - b).abs().max()) for a, b in zip(clicks, expected, strict=True))
    stats = store.stats()
    if rank == 0:
        print(plan)
    print(
        f"rank {rank}: {len(clicks)} batches of {BATCH}, clicks within {error:.1e} of the model "
        f"in memory, {stats.lookups:,} lookups, miss ratio {stats.miss_ratio:.3f}",
        flush=True,
    )
    store.close()
    if error > 1e-5:
        raise SystemExit(f"rank {rank}: wrong clicks")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="of the files (default: a temporary one)")
    arguments = parser.parse_args()
    dist.init_process_group("gloo")
    with tempfile.TemporaryDirectory() as name:
        shared = [str(arguments.folder or name)]
        dist.broadcast_object_list(shared)  # rank 0's
        main(Path(shared[0]))
        dist.barrier()
    dist.destroy_process_group()
