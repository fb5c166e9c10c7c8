"""Types of `learned_model`."""

from collections.abc import Sequence

from tieralloc._bindings.network import Network
from tieralloc._bindings.planned_model import PlannedModel

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
