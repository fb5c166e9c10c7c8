"""Types of the compiled core."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

def eviction_policy_names() -> list[str]: ...

class PlannedModel: ...

class ExternalModel(PlannedModel):
    def __init__(
        self,
        decide: Callable[[NDArray[np.uint64]], tuple[NDArray[np.bool_], NDArray[np.uint64]]],
        *,
        chunk: int,
        eviction_speed: int,
        table_starts: ArrayLike = (),
        nbytes: int = 0,
    ) -> None: ...

class Simulator:
    def __init__(
        self,
        policy: str | PlannedModel,
        capacity: int,
        rows: int,
        *,
        count_from: int = 0,
        seed: int = 0,
        prefetch_lag: int = 0,
        table_starts: ArrayLike | None = None,
        samples_per_call: int = 0,
        max_bytes: int = 0,
        prefetch_cost: float = 0.0,
        selects: bool = True,
    ) -> None: ...
    def run(
        self, accesses: NDArray[np.uint64], sample_lengths: ArrayLike | None = None
    ) -> None: ...
    def prefetch(self, rows: NDArray[np.uint64]) -> None: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def policy_bytes(self) -> int: ...
    @property
    def policy_stats(self) -> dict[str, Any] | None: ...

ROW_FEATURES_VERSION: int
MAX_CONTEXTS: int

def row_feature_names() -> list[str]: ...
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

PREFETCH_HORIZON: int

def candidate_feature_names() -> list[str]: ...
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

class Network:
    def __init__(
        self,
        source: Mapping[str, Any] | Callable[[NDArray[np.float32]], NDArray[np.float32]],
        *,
        features: int = 0,
        outputs: int = 0,
    ) -> None: ...
    @property
    def kind(self) -> str: ...
    def evaluate(self, features: ArrayLike) -> NDArray[np.float32]: ...

class LearnedModel(PlannedModel):
    def __init__(
        self,
        caching: Network,
        prefetch: Network | None = None,
        *,
        intervals: Sequence[int],
        horizons: Sequence[int],
        eviction_ages: Sequence[tuple[int, float]],
        prefetch_intervals: Sequence[int] = ...,
        contexts: Sequence[int] = (),
    ) -> None: ...

def eviction_policy_bytes(policy: str, capacity: int) -> int: ...
def belady(
    accesses: NDArray[np.uint64], rows: int, capacity: int, *, count_from: int = 0
) -> dict[str, int]: ...
def opt_labels(
    accesses: NDArray[np.uint64], rows: int, capacity: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]: ...
def next_uses(accesses: NDArray[np.uint64], rows: int) -> NDArray[np.uint32]: ...
def fetch_engines() -> dict[str, str]: ...
def kernel_isa() -> str: ...
def numa_nodes() -> list[dict[str, Any]]: ...
def usable_node(node: int) -> dict[str, Any]: ...
def sample_memory(
    node: int, cpus: Sequence[int], memory_bytes: int, repeats: int, row_bytes: Sequence[int]
) -> dict[str, Any]: ...
def sample_emulation(
    extra_ns: float, memory_bytes: int, repeats: int
) -> tuple[list[float], list[float]]: ...

class Store:
    def __init__(
        self,
        path: bytes | None,
        *,
        mode: str,
        memory: tuple[int, bool, bool, float, int] | None,
        fast_bytes: int,
        fast_rows: int,
        policy: str,
        engine: str,
        direct: bool,
        reserve: bool,
        queue_depth: int,
        prefetch_threads: int,
        fast_node: tuple[int, bool, bool],
        cpus: Sequence[int],
        promotion: str,
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
    def drain_accesses(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]: ...
    def capacities(self) -> list[int]: ...
    def use_policy(self, name: str) -> None: ...
    def use_planned(
        self,
        model: PlannedModel,
        simple: str,
        *,
        pauses: bool,
        in_background: bool,
        max_bytes: int,
        prefetch_cost: float,
        selects: bool,
    ) -> None: ...
    def step_policy(self) -> int: ...
    def policy_stats(self) -> dict[str, Any] | None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    def stats(self) -> dict[str, Any]: ...
    def reset_stats(self) -> None: ...
