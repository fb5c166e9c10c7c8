"""The interface that tieralloc and every baseline are measured behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from bench.peers.workloads import Batch, Dataset, pool


class BaselineFailedError(Exception):
    """A baseline did not do what is measured; the text says what it did."""


class Adapter(ABC):
    """Serves embedding bags from the rows of a dataset.

    Parameters
    ----------
    dataset : Dataset
    budget : int or None
        Bytes of DRAM for rows; None for all rows.
    """

    name: ClassVar[str]
    #: Modules that it imports.
    modules: ClassVar[tuple[str, ...]] = ()
    #: Whether it can serve from less DRAM than the rows take.
    has_budget: ClassVar[bool] = False
    #: Whether it caches in the page cache, which only a memory cgroup limits.
    needs_cgroup: ClassVar[bool] = False
    #: Whether results are (B, T * dim), the tables side by side; else (T * B, dim).
    side_by_side: ClassVar[bool] = False

    def __init__(self, dataset: Dataset, budget: int | None) -> None:
        self.dataset = dataset
        self.budget = budget

    @classmethod
    def refusal(cls) -> str | None:
        """Return why it cannot run here; None where it can."""
        for module in cls.modules:
            try:
                __import__(module)
            except Exception as error:  # a broken shared library raises anything
                return f"{module} cannot be imported: {error}"
        return None

    def prepare(self) -> None:  # noqa: B027
        """Make its files unless they exist, and drop their pages from the page cache."""

    @abstractmethod
    def load(self) -> None:
        """Get ready to serve."""

    @abstractmethod
    def embedding_bag(self, batch: Batch) -> Any:
        """Return the sum of each bag. The next call may overwrite the result."""

    @abstractmethod
    def close(self) -> None:
        """Release everything but files; `load` may follow again."""

    def dram_bytes(self) -> int:
        """Return the DRAM of rows, caches and metadata."""
        return self.dataset.rows * self.dataset.row_bytes

    def fill(self, batches: Sequence[Batch]) -> bool:
        """Fill the cache as serving these batches would; False where it cannot."""
        return False

    def use_threads(self, count: int) -> None:  # noqa: B027
        """Use so many threads within a call, where it can."""

    def misses(self) -> tuple[int, int] | None:
        """Return lookups and misses since `load`; None where it does not count them."""
        return None


class OneTable(Adapter):
    """A store of rows by number, pooled by NumPy: all tables are one."""

    has_budget = True

    @abstractmethod
    def take(self, rows: Any) -> Any:
        """Return the values of rows, (n, dim)."""

    def embedding_bag(self, batch: Batch) -> Any:
        return pool(self.take(self.dataset.rows_of(batch)), batch.offsets)
