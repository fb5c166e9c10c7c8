"""What a peer has to do to be measured, and what several of them do the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.peers.dataset import Dataset
from bench.peers.loads import Batch


class PeerFailedError(Exception):
    """A peer did not do what is measured; the text says what it did."""


class Peer(ABC):
    """A way to serve embedding bags from a data set's rows."""

    #: What reports call it.
    name: ClassVar[str]
    #: Whether it can serve from less DRAM than the rows take.
    has_budget: ClassVar[bool] = False
    #: Whether it caches in the kernel's page cache, which only a memory cgroup bounds.
    needs_cgroup: ClassVar[bool] = False
    #: Whether results are (B, T * dim), the tables side by side; else (T * B, dim).
    side_by_side: ClassVar[bool] = False

    def __init__(self, dataset: Dataset, budget: int | None) -> None:
        self.dataset = dataset
        self.budget = budget  # bytes of DRAM for rows; None for as many as there are

    @classmethod
    def refusal(cls) -> str | None:
        """Say why it cannot run here; None where it can."""
        return None

    @abstractmethod
    def prepare(self) -> None:
        """Make the files that `load` opens, unless they are there, and make them cold."""

    @abstractmethod
    def load(self) -> None:
        """Be ready to serve."""

    @abstractmethod
    def embedding_bag(self, batch: Batch) -> Any:
        """Return the sum of each bag. The result may be overwritten by the next call."""

    @abstractmethod
    def dram_bytes(self) -> int:
        """DRAM that its rows, caches and bookkeeping take."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything but files; `load` may follow again."""

    def fill(self, batches: Sequence[Batch]) -> bool:
        """Come quickly to hold what serving these batches would leave; False where it cannot."""
        return False

    def use_threads(self, count: int) -> None:  # noqa: B027
        """Work with so many threads within a call, where it can."""

    def misses(self) -> tuple[int, int] | None:
        """Rows asked for and rows not found in DRAM since `load`, where it counts them."""
        return None


def import_refusal(*modules: str) -> str | None:
    """Say which of these modules cannot be imported, and why."""
    for module in modules:
        try:
            __import__(module)
        except Exception as error:  # a broken shared library raises what it likes
            return f"{module} cannot be imported: {error}"
    return None


def bag_count(dataset: Dataset, batch: Batch) -> int:
    """Bags of each table in a batch."""
    return (len(batch.offsets) - 1) // len(dataset.table_rows)


class OneTable:
    """Takes the tables of a data set for a single one, as who writes such a thing by hand would."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._first_rows = dataset.first_rows

    def rows_of(self, batch: Batch) -> NDArray[np.int64]:
        """Rows of a batch, numbered across the tables."""
        if len(self._first_rows) == 1:
            return batch.indices
        table_ends = batch.offsets[:: bag_count(self._dataset, batch)]
        return batch.indices + np.repeat(self._first_rows, np.diff(table_ends))

    @staticmethod
    def pool(rows: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """Sum of each bag, given the rows of all bags."""
        lengths = np.diff(offsets)
        if len(lengths) and (lengths == lengths[0]).all() and lengths[0] > 0:
            together = rows.reshape(len(lengths), lengths[0], rows.shape[1])
            sums: NDArray[np.float32] = together.sum(axis=1)
            return sums
        sums = np.zeros((len(lengths), rows.shape[1]), dtype=np.float32)
        filled = np.flatnonzero(lengths)
        if len(filled):
            # Between the beginnings of filled bags there are only empty ones.
            sums[filled] = np.add.reduceat(rows, offsets[filled], axis=0)
        return sums
