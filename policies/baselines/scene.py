"""The stream that baselines are replayed on, and its first part, the training accesses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from tieralloc.policies.ids import IdSpace, learn_id_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace.stream import Stream

#: Numberings of the rows: by an id space (co-accessed rows are neighbours), or as in the trace.
ORDERS = ("learned", "raw")


@dataclass(frozen=True, eq=False)
class Scene:
    """A stream to replay, and the number of its training accesses.

    Eviction policies are invariant to the numbering of the rows; prefetchers of neighbouring rows
    are not. So a scene returns its accesses in any of `ORDERS`.
    """

    stream: Stream  # all accesses of it are replayed
    num_training: int  # accesses from the first that baselines may train on
    seed: int = 0

    def accesses(self, order: str) -> NDArray[np.uint64]:
        """Return the accesses, (n,) uint64, with rows numbered in an order."""
        return self._learned_accesses if order == "learned" else self.stream.accesses

    def table_of(self, order: str) -> NDArray[np.uint32]:
        """Return the table of each row, (rows,) uint32, with rows numbered in an order."""
        starts = self.stream.table_starts.astype(np.int64)
        tables = np.repeat(
            np.arange(self.stream.num_tables, dtype=np.uint32), starts[1:] - starts[:-1]
        )
        return tables[self._space.order] if order == "learned" else tables

    def order_bytes(self, order: str) -> int:
        """Return the memory of an order in bytes: 4 per row for each direction of the mapping."""
        return 8 * self.stream.rows if order == "learned" else 0

    @cached_property
    def _space(self) -> IdSpace:
        training = self.stream.accesses[: self.num_training]
        return learn_id_space(training, self.stream.rows, self.seed)

    @cached_property
    def _learned_accesses(self) -> NDArray[np.uint64]:
        ranks = np.empty(self.stream.rows, dtype=np.uint64)
        ranks[self._space.order] = np.arange(self.stream.rows, dtype=np.uint64)
        return ranks[self.stream.accesses]
