"""Types of the compiled core."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

def eviction_policy_names() -> list[str]: ...

class Simulator:
    def __init__(
        self,
        policy: str,
        capacity: int,
        rows: int,
        *,
        count_from: int = 0,
        seed: int = 0,
        prefetch_lag: int = 0,
    ) -> None: ...
    def run(self, accesses: NDArray[np.uint64]) -> None: ...
    def prefetch(self, rows: NDArray[np.uint64]) -> None: ...
    @property
    def counts(self) -> dict[str, int]: ...

class GuidedSimulator:
    def __init__(
        self,
        capacity: int,
        rows: int,
        *,
        chunk: int,
        eviction_speed: int,
        count_from: int = 0,
        prefetch_lag: int = 0,
    ) -> None: ...
    def run(
        self,
        accesses: NDArray[np.uint64],
        keep: NDArray[np.bool_],
        prefetches: NDArray[np.uint64],
        offsets: NDArray[np.uint64],
    ) -> None: ...
    @property
    def counts(self) -> dict[str, int]: ...

def belady(
    accesses: NDArray[np.uint64], rows: int, capacity: int, *, count_from: int = 0
) -> dict[str, int]: ...
def opt_labels(
    accesses: NDArray[np.uint64], rows: int, capacity: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]: ...
def next_uses(accesses: NDArray[np.uint64], rows: int) -> NDArray[np.uint32]: ...
def fetch_engines() -> dict[str, str]: ...
def kernel_isa() -> str: ...

class Store:
    def __init__(
        self,
        path: bytes,
        *,
        create: bool,
        fast_bytes: int,
        fast_rows: int,
        policy: str,
        engine: str,
        direct: bool,
        reserve: bool,
        queue_depth: int,
        prefetch_threads: int,
        seed: int,
    ) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def belongs_here(self) -> bool: ...
    def create_table(self, name: str, rows: int, dim: int, dtype: str) -> int: ...
    def tables(self) -> list[tuple[str, int, int, str]]: ...
    def load(self, position: int, first: int, values: ArrayLike) -> int: ...
    def settle(self) -> None: ...
    def lookup(
        self, position: int, indices: ArrayLike, out: Any, bounds: str
    ) -> tuple[Any, int]: ...
    def embedding_bag(
        self,
        positions: Iterable[int],
        paddings: Sequence[int] | None,
        indices: ArrayLike,
        offsets: ArrayLike,
        include_last_offset: bool,
        mode: str,
        per_sample_weights: ArrayLike | None,
        out: Any,
        bounds: str,
    ) -> tuple[Any, int]: ...
    def update(self, position: int, indices: ArrayLike, values: ArrayLike) -> None: ...
    def prefetch(
        self,
        positions: Iterable[int],
        indices: ArrayLike,
        offsets: ArrayLike | None,
        include_last_offset: bool,
        bounds: str,
    ) -> int: ...
    def pin(self, position: int, indices: ArrayLike) -> None: ...
    def unpin(self, position: int, indices: ArrayLike) -> None: ...
    def record_accesses(self, capacity: int) -> None: ...
    def drain_accesses(self) -> NDArray[np.uint64]: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    def stats(self) -> dict[str, Any]: ...
    def reset_stats(self) -> None: ...
