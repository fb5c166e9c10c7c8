"""What came of a turn of serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Served:
    """What came of a turn: figures of each request, (n,) int64 nanoseconds, and of all."""

    due: NDArray[np.int64]  # when it arrived; in a closed loop when it was begun
    begun: NDArray[np.int64]
    ended: NDArray[np.int64]
    hints: NDArray[np.int64]  # time of the calls that have queued requests fetched ahead
    embedding: NDArray[np.int64]  # time in the module of the embeddings
    cpu_ns: dict[str, int]  # of all requests, by who took it
    counts: dict[str, int]
