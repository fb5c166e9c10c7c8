"""What is asked for: the samples of a trace in batches, with dense features drawn beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.dlrm.settings import DENSE_FEATURES, Settings
from tieralloc.trace.stream import count_distinct, first_counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

#: The share of a trace that policies learn from, and that warms the fast tier.
COUNT_FROM = 0.5


def parts_of(numbers: range, count: int) -> list[range]:
    """Part consecutive numbers evenly."""
    bounds = np.linspace(numbers.start, numbers.stop, count + 1).astype(int).tolist()
    return [range(a, b) for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class Requests:
    """The requests of a trace: those that warm the fast tier, and those that are counted."""

    trace: Trace
    settings: Settings

    @cached_property
    def boundary(self) -> int:
        """The first sample that is counted."""
        return self.trace.sample_of_access(first_counted(self.trace.num_lookups, COUNT_FROM))

    @cached_property
    def warm_up(self) -> list[Any]:
        """Requests before that: (indices, offsets) each, the last ones if not all."""
        before = self.trace.samples(0, self.boundary)
        batches = list(before.batches(self.settings.batch_size))
        most = self.settings.most_requests
        return batches if most is None else batches[-most:]

    @cached_property
    def counted(self) -> list[Any]:
        """Requests from there on, the last one left out if it is not whole."""
        after = self.trace.samples(self.boundary, self.trace.num_samples)
        size = self.settings.batch_size
        batches = list(after.batches(size))[: after.num_samples // size]
        return batches[: self.settings.most_requests]

    @cached_property
    def dense(self) -> NDArray[np.float32]:
        """Dense features of the counted requests, (requests, samples, features)."""
        shape = (len(self.counted), self.settings.batch_size, DENSE_FEATURES)
        random = np.random.default_rng(self.settings.seed)
        return random.random(shape, dtype=np.float32)

    def segments(self) -> list[range]:
        """Numbers of the counted requests that are served in one turn, for each turn."""
        return parts_of(range(len(self.counted)), self.settings.segments)

    @cached_property
    def distinct_rows(self) -> int:
        """Rows that the trace looks up."""
        return count_distinct(self.trace.accesses(), int(self.trace.num_embeddings.sum()))

    def unavoidable(self) -> dict[str, float]:
        """Say what no cache avoids, of the counted requests.

        Returns
        -------
        dict
            lookups; repeated: the share that a request asks for more than once, and finds the
            second time; compulsory: the share that is asked for the first time in the trace.
        """
        seen = np.zeros(int(self.trace.num_embeddings.sum()), dtype=bool)
        for rows in map(self._rows, self.warm_up):
            seen[rows] = True
        lookups = repeated = compulsory = 0
        for rows in map(self._rows, self.counted):
            distinct = np.unique(rows)
            lookups += len(rows)
            repeated += len(rows) - len(distinct)
            compulsory += int((~seen[distinct]).sum())
            seen[distinct] = True
        return {
            "lookups": lookups,
            "repeated": repeated / lookups,
            "compulsory": compulsory / lookups,
        }

    def _rows(self, batch: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.int64]:
        indices, offsets = batch
        tables = len(self.trace.table_names)
        of_table = np.diff(offsets[:: (len(offsets) - 1) // tables])
        return indices + np.repeat(self.trace.first_rows[:tables], of_table)
