"""Types of `network`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
