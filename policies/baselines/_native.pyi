"""Types of the compiled baselines."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

class RowPrefetcher:
    def begin_sample(self) -> None: ...
    def observe(self, row: int, result: str) -> list[int]: ...
    def evicted(self, row: int) -> None: ...
    @property
    def nbytes(self) -> int: ...

class NextRow(RowPrefetcher):
    def __init__(self, rows: int, *, degree: int = 1) -> None: ...

class CoOccurrence(RowPrefetcher):
    def __init__(
        self,
        rows: int,
        *,
        partners: int = 16,
        window: int = 8,
        across_samples: bool = False,
        least_share: float = 0.05,
        degree: int = 8,
    ) -> None: ...

class Domino(RowPrefetcher):
    def __init__(
        self,
        rows: int,
        *,
        degree: int = 4,
        streams: int = 4,
        followers: int = 3,
        history: int = 1 << 20,
        all_accesses: bool = False,
    ) -> None: ...

class Bingo(RowPrefetcher):
    def __init__(
        self,
        table_of: ArrayLike,
        *,
        region: int = 32,
        active: int = 64,
        history: int = 1 << 14,
        voters: int = 16,
        votes: float = 0.2,
    ) -> None: ...

class Predicted(RowPrefetcher):
    def __init__(self, *, all_accesses: bool) -> None: ...
    def append(self, rows: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> None: ...

class PrefetchingSimulator:
    def __init__(
        self,
        policy: str,
        capacity: int,
        rows: int,
        prefetcher: RowPrefetcher,
        *,
        count_from: int = 0,
        seed: int = 0,
        prefetch_lag: int = 0,
    ) -> None: ...
    def run(self, rows: NDArray[np.uint64], sample_lengths: ArrayLike) -> None: ...
    @property
    def counts(self) -> dict[str, int]: ...
