"""Types of `labels`."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

def belady(
    accesses: NDArray[np.uint64],
    rows: int,
    capacity: int,
    *,
    count_from: int = 0,
    samples_per_call: int = 0,
    sample_lengths: ArrayLike | None = None,
    pages: ArrayLike | None = None,
) -> dict[str, int]: ...
def opt_labels(
    accesses: NDArray[np.uint64], rows: int, capacity: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]: ...
def next_uses(accesses: NDArray[np.uint64], rows: int) -> NDArray[np.uint32]: ...
