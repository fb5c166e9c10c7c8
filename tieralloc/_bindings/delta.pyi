"""Types of `delta`."""

from collections.abc import Iterable

from numpy.typing import ArrayLike

from tieralloc._bindings.store_base import StoreBase

class Delta:
    def __init__(
        self, store: StoreBase, positions: Iterable[int], counts: Iterable[int]
    ) -> None: ...
    def stage(self, position: int, rows: ArrayLike, values: ArrayLike | None) -> None: ...
    def commit(self, version: int) -> int: ...
    def end(self) -> None: ...
