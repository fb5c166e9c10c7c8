"""Inputs of the paper's models from an access stream, and their decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from tieralloc.policies.ids import IdSpace
from tieralloc.policies.recmg_paper.models import CHUNK, POINTS

from tieralloc._bindings import ExternalModel
from tieralloc._common.torch import torch
from tieralloc.policy.directory import FeatureSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    #: From the rows of whole chunks to keep flags, one per row, and prefetched rows, per chunk.
    Decide: TypeAlias = Callable[[NDArray[np.uint64]], tuple[NDArray[np.bool_], NDArray[np.uint64]]]

#: Features of an access: its position in the id space, the number of its table.
FEATURES = FeatureSpec("recmg-paper", version=1, width=2)

_BATCH_CHUNKS = 1024


@dataclass(frozen=True, eq=False)
class Inputs:
    """The whole chunks of an access stream."""

    positions: torch.Tensor  # (chunks, CHUNK): positions in the id space
    tables: torch.Tensor  # (chunks, CHUNK): numbers of the tables

    @classmethod
    def of(
        cls, accesses: NDArray[np.uint64], first_rows: NDArray[np.int64], space: IdSpace
    ) -> Inputs:
        """Return the inputs of a stream; table ``t`` begins at row ``first_rows[t]``."""
        whole = accesses[: len(accesses) // CHUNK * CHUNK]
        positions = space.positions[whole].astype(np.float32)
        tables = np.searchsorted(first_rows, whole.astype(np.int64), side="right") - 1
        shape = (-1, CHUNK)
        return cls(
            torch.from_numpy(positions.reshape(shape)), torch.from_numpy(tables.reshape(shape))
        )

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, chunks: slice | torch.Tensor) -> Inputs:
        return Inputs(self.positions[chunks], self.tables[chunks])

    def batches(self) -> Iterator[Inputs]:
        """Iterate over the chunks in order, in batches."""
        return (self[at : at + _BATCH_CHUNKS] for at in range(0, len(self), _BATCH_CHUNKS))


def decide_keep(model: torch.nn.Module, inputs: Inputs) -> NDArray[np.bool_]:
    """Return the keep flags of the caching model, (chunks * CHUNK,) bool."""
    with torch.inference_mode():
        flags = [model(batch.positions, batch.tables) > 0 for batch in inputs.batches()]
    return np.concatenate([np.empty(0, dtype=bool), *(batch.numpy().ravel() for batch in flags)])


def decide_prefetches(model: torch.nn.Module, inputs: Inputs, space: IdSpace) -> NDArray[np.uint64]:
    """Return the rows to prefetch after each chunk, (chunks, POINTS) uint64."""
    with torch.inference_mode():
        points = [model(batch.positions, batch.tables).numpy() for batch in inputs.batches()]
    empty = np.empty((0, POINTS), dtype=np.float32)
    return space.nearest(np.concatenate([empty, *points]))


def precomputed(keep: NDArray[np.bool_], prefetches: NDArray[np.uint64]) -> Decide:
    """Return a function that returns precomputed decisions, chunk by chunk, in order."""
    chunks = 0

    def decide(rows: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        nonlocal chunks
        first, chunks = chunks, chunks + len(rows) // CHUNK
        return keep[first * CHUNK : chunks * CHUNK], prefetches[first:chunks]

    return decide


def external_model(decide: Decide, eviction_speed: int, **options: Any) -> ExternalModel:
    """Return the model that a store or the simulator runs; options as for `ExternalModel`.

    `decide` returns the results of `decide_keep` and `decide_prefetches` for the rows of whole
    chunks. They take effect after the last access of a chunk.
    """

    def flattened(rows: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        keep, prefetches = decide(rows)
        return keep, prefetches.ravel()

    return ExternalModel(flattened, chunk=CHUNK, eviction_speed=eviction_speed, **options)
