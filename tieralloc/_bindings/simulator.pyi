"""Types of `simulator`."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tieralloc._bindings.planned_model import PlannedModel

def eviction_policy_names() -> list[str]: ...
def eviction_policy_bytes(policy: str, capacity: int) -> int: ...

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
        pages: ArrayLike | None = None,
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
