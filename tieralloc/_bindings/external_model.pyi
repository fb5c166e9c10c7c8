"""Types of `external_model`."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tieralloc._bindings.planned_model import PlannedModel

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
