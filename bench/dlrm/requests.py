"""Requests: the samples of a trace in batches, with random dense features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.dlrm.settings import DENSE_FEATURES, Settings
from bench.scenery.traces import COUNT_FROM
from tieralloc.trace.stream import count_distinct, first_counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace


@dataclass(frozen=True)
class Requests:
    """The requests of a trace, (indices, offsets) each: warm-up and counted requests."""

    trace: Trace
    settings: Settings

    @cached_property
    def boundary(self) -> int:
        """The first counted sample."""
        return self.trace.sample_of_access(first_counted(self.trace.num_lookups, COUNT_FROM))

    @cached_property
    def warm_up(self) -> list[Any]:
        """The last requests before the boundary, or all."""
        before = self.trace.samples(0, self.boundary)
        return list(before.batches(self.settings.batch_size))[-(self.settings.max_requests or 0) :]

    @cached_property
    def counted(self) -> list[Any]:
        """The first requests from the boundary on, or all that are full."""
        after = self.trace.samples(self.boundary, self.trace.num_samples)
        size = self.settings.batch_size
        full = list(after.batches(size))[: after.num_samples // size]
        return full[: self.settings.max_requests]

    @cached_property
    def dense(self) -> NDArray[np.float32]:
        """Dense features of the counted requests, (requests, samples, features)."""
        shape = (len(self.counted), self.settings.batch_size, DENSE_FEATURES)
        return np.random.default_rng(self.settings.seed).random(shape, dtype=np.float32)

    def segments(self) -> list[range]:
        """Return the numbers of the counted requests of each turn."""
        bounds = np.linspace(0, len(self.counted), self.settings.turns + 1).astype(int).tolist()
        return [range(begin, end) for begin, end in pairwise(bounds)]

    @cached_property
    def distinct_rows(self) -> int:
        """Distinct rows of the trace."""
        return count_distinct(self.trace.accesses(), int(self.trace.num_embeddings.sum()))
