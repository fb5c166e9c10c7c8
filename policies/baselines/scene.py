"""The stream that baselines are replayed on, and the part that they may learn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tieralloc.policies.ids import IdSpace, learn_id_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace


@dataclass(frozen=True, eq=False)
class Stream:
    """Accesses in order.

    Parameters
    ----------
    accesses : (n,) uint64
        Rows, sample by sample.
    lengths : (samples,) uint32
        Rows of each sample, which add up to n.
    table_of : (rows,) uint32
        The table of each row.
    """

    accesses: NDArray[np.uint64]
    lengths: NDArray[np.uint32]
    table_of: NDArray[np.uint32]

    @classmethod
    def of(cls, trace: Trace) -> Stream:
        """Return all accesses of a trace."""
        tables = np.arange(len(trace.num_embeddings), dtype=np.uint32)
        return cls(
            trace.accesses(),
            trace.lengths.sum(axis=0, dtype=np.uint32),
            np.repeat(tables, trace.num_embeddings),
        )

    @property
    def rows(self) -> int:
        """How many rows there are, accessed or not."""
        return len(self.table_of)

    def until(self, end: int) -> Stream:
        """Return the first accesses, the last sample cut short."""
        ends = np.minimum(np.cumsum(self.lengths, dtype=np.int64), end)
        lengths = np.diff(ends, prepend=0)[: int(np.searchsorted(ends, end)) + 1]
        return Stream(self.accesses[:end], lengths.astype(np.uint32), self.table_of)

    def renamed(self, space: IdSpace) -> Stream:
        """Return the same with rows numbered by their places in an order.

        It matters to prefetchers of neighbouring rows, and not to eviction policies.
        """
        places = np.empty(self.rows, dtype=np.uint64)
        places[space.order] = np.arange(self.rows, dtype=np.uint64)
        return Stream(places[self.accesses], self.lengths, self.table_of[space.order])


#: How rows are numbered: so that rows accessed together are neighbours, or as in the trace.
ORDERS = ("learned", "raw")


@dataclass(frozen=True, eq=False)
class Scene:
    """A stream to replay, with a first part to learn from.

    Parameters
    ----------
    stream : Stream
        All of it is replayed.
    learned : int
        Accesses of the first part.
    seed : int
        Random seed.
    """

    stream: Stream
    learned: int
    seed: int = 0

    def ordered(self, order: str) -> Stream:
        """Return the stream with rows numbered in one of `ORDERS`."""
        return self._renamed if order == "learned" else self.stream

    def order_bytes(self, order: str) -> int:
        """Return bytes of memory of an order: a number for each row, both ways."""
        return 8 * self.stream.rows if order == "learned" else 0

    @cached_property
    def _renamed(self) -> Stream:
        known = self.stream.accesses[: self.learned]
        return self.stream.renamed(learn_id_space(known, self.stream.rows, self.seed))
