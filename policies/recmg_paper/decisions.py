"""What the models are told of an access stream, and what they decide."""

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

    #: From rows to what is kept and what is prefetched.
    Decide: TypeAlias = Callable[[NDArray[np.uint64]], tuple[NDArray[np.bool_], NDArray[np.uint64]]]

#: Of each access: its position in the id space, the number of its table.
FEATURES = FeatureSpec("recmg-paper", version=1, width=2)

_BATCH = 1024  # chunks


@dataclass(frozen=True, eq=False)
class Inputs:
    """The whole chunks of an access stream.

    Parameters
    ----------
    positions : (chunks, CHUNK) float32
        In the id space.
    tables : (chunks, CHUNK) int64
        Numbers of the tables.
    """

    positions: torch.Tensor
    tables: torch.Tensor

    @classmethod
    def of(
        cls, accesses: NDArray[np.uint64], first_rows: NDArray[np.int64], space: IdSpace
    ) -> Inputs:
        """Compute the inputs of a stream whose tables begin at `first_rows`."""
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
        """Iterate over chunks in order, as many at a time as suit a model."""
        return (self[at : at + _BATCH] for at in range(0, len(self), _BATCH))


def decide_keep(model: torch.nn.Module, inputs: Inputs) -> NDArray[np.bool_]:
    """Ask the caching model which accesses' rows are worth keeping, (chunks * CHUNK,) bool."""
    with torch.inference_mode():
        bits = [model(batch.positions, batch.tables) > 0 for batch in inputs.batches()]
    return np.concatenate([np.empty(0, dtype=bool), *(batch.numpy().ravel() for batch in bits)])


def decide_prefetches(model: torch.nn.Module, inputs: Inputs, space: IdSpace) -> NDArray[np.uint64]:
    """Ask the prefetch model what to fetch after each chunk, (chunks, POINTS) uint64."""
    with torch.inference_mode():
        points = [model(batch.positions, batch.tables).numpy() for batch in inputs.batches()]
    nothing = np.empty((0, POINTS), dtype=np.float32)
    return space.nearest(np.concatenate([nothing, *points]))


def known(keep: NDArray[np.bool_], prefetches: NDArray[np.uint64]) -> Decide:
    """Return a function that gives decisions made before, as the chunks of their stream come."""
    chunks = 0

    def decide(rows: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        nonlocal chunks
        first, chunks = chunks, chunks + len(rows) // CHUNK
        return keep[first * CHUNK : chunks * CHUNK], prefetches[first:chunks]

    return decide


def external_model(decide: Decide, eviction_speed: int, **options: Any) -> ExternalModel:
    """Make what a store or the simulator runs of decisions.

    The decisions on a chunk take effect after its last access.

    Parameters
    ----------
    decide : callable
        From the rows of whole chunks to what `decide_keep` and `decide_prefetches` return.
    eviction_speed, options
        As for `tieralloc._bindings.ExternalModel`.
    """

    def flat(rows: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        keep, prefetches = decide(rows)
        return keep, prefetches.ravel()

    return ExternalModel(flat, chunk=CHUNK, eviction_speed=eviction_speed, **options)
