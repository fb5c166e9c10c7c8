"""The common interface of tieralloc and every baseline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bench.peers.serving import Served, serve, serve_from_threads
from bench.peers.workloads import Batch, Dataset, Workload
from tieralloc.tools.replay.baselines import pool


class BaselineFailedError(Exception):
    """A baseline did not do the measured work; the message has the difference."""


class Adapter(ABC):
    """Serves a workload from the rows of a dataset, within `budget` bytes of DRAM if given."""

    name: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ()  # imported by the adapter
    has_budget: ClassVar[bool] = False  # whether it can serve from less DRAM than the rows take
    needs_cgroup: ClassVar[bool] = False  # whether only a memory cgroup limits its page cache
    side_by_side: ClassVar[bool] = False  # results are (B, T * dim), else (T * B, dim)
    tolerance: ClassVar[float] = 0.0  # of each row in a sum, whose values are from -1 to 1

    def __init__(self, dataset: Dataset, workload: Workload, budget: int | None = None) -> None:
        self.dataset = dataset
        self.workload = workload
        self.budget = budget

    @classmethod
    def refusal(cls) -> str | None:
        """Return why the adapter cannot run here; None if it can."""
        for module in cls.modules:
            try:
                __import__(module)
            except Exception as error:  # a broken shared library raises anything
                return f"{module} cannot be imported: {error}"
        return None

    def prepare(self) -> None:  # noqa: B027
        """Create missing files, and drop their pages from the page cache."""

    @abstractmethod
    def open(self) -> None:
        """Prepare to serve."""

    @abstractmethod
    def embedding_bag(self, batch: Batch) -> Any:
        """Return the sum of each bag. The next call may overwrite the result."""

    @abstractmethod
    def close(self) -> None:
        """Release everything except files; `open` may be called again."""

    def dram_bytes(self) -> int:
        """Return the DRAM of rows, caches and metadata."""
        return self.dataset.rows * self.dataset.row_bytes

    def use_threads(self, count: int) -> None:  # noqa: B027
        """Use `count` threads per call, if supported."""

    def misses(self) -> tuple[int, int] | None:
        """Return lookups and misses since `open`; None if it does not count them."""
        return None

    def results(self, batch: Batch) -> Any:
        """Return the sums of the bags of a batch, table-major: (T * B, dim)."""
        result = np.asarray(self.embedding_bag(batch))
        if self.side_by_side:
            bags = self.dataset.bag_count(batch)
            result = result.reshape(bags, -1, self.dataset.dim).transpose(1, 0, 2)
        return result.reshape(-1, self.dataset.dim)

    def warm(self, seconds: float) -> None:
        """Serve the warm-up batches, for at most `seconds`."""
        serve(self.embedding_bag, self.workload.warm, seconds)

    def serve(self, turn: int, seconds: float) -> Served:
        """Serve the segment of a turn, for at most `seconds`."""
        self.use_threads(1)
        return serve(self.embedding_bag, self.workload.segments[turn], seconds)

    def serve_repeatedly(
        self, turn: int, seconds: float, callers: int = 1, within: int = 1
    ) -> Served:
        """Serve a segment from `callers` threads, with `within` threads per call."""
        self.use_threads(within)
        batches: Sequence[Batch] = self.workload.segments[turn]
        return serve_from_threads(self.embedding_bag, batches, seconds, callers)


class OneTable(Adapter):
    """A store of rows by number, pooled by NumPy: all tables are one."""

    has_budget = True

    @abstractmethod
    def take(self, rows: Any) -> Any:
        """Return the values of rows, (n, dim)."""

    def embedding_bag(self, batch: Batch) -> Any:
        return pool(self.take(self.dataset.rows_of(batch)), batch.offsets)
