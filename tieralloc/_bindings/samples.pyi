"""Types of `samples`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROW_FEATURES_VERSION: int
MAX_CONTEXTS: int
PREFETCH_HORIZON: int

def row_feature_names() -> list[str]: ...
def candidate_feature_names() -> list[str]: ...
def draw_row_samples(
    rows: NDArray[np.uint64],
    sample_lengths: ArrayLike,
    table_starts: ArrayLike,
    *,
    contexts: Sequence[int] = (),
    remembered: int,
    first: int,
    count: int,
    seed: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.uint32]]: ...
def draw_candidate_samples(
    rows: NDArray[np.uint64],
    sample_lengths: ArrayLike,
    table_starts: ArrayLike,
    *,
    contexts: Sequence[int] = (),
    remembered: int,
    partners: int,
    first: int,
    count: int,
    seed: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.uint32]]: ...
