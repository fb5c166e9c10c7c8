"""Types of `store`."""

from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import ArrayLike

from tieralloc._bindings.checkpoint import Checkpoint
from tieralloc._bindings.pending_call import PendingCall
from tieralloc._bindings.planned_model import PlannedModel
from tieralloc._bindings.row_order import RowOrder
from tieralloc._bindings.store_base import StoreBase

class Store(StoreBase):
    def __init__(
        self,
        path: bytes | None,
        *,
        mode: str,
        memory: tuple[int, bool, bool, float, int] | None,
        checkpoint: Checkpoint | None,
        fast_bytes: int,
        fast_rows: int,
        policy: str,
        engine: str,
        direct: bool,
        reserve: bool,
        queue_depth: int,
        durability: str,
        write_back_interval: float,
        prefetch_threads: int,
        fast_node: tuple[int, bool, bool],
        cpus: Sequence[int],
        promotion: str,
    ) -> None: ...
    def create_table(
        self,
        name: str,
        rows: int,
        dim: int,
        dtype: str,
        resident: str | bool,
        order: RowOrder | None,
    ) -> int: ...
    def lookup(
        self, position: int, indices: ArrayLike, out: Any, raw: bool, bounds: str
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
    def embedding_bags(
        self, requests: Iterable[tuple[Any, ...]], bounds: str, accesses: str
    ) -> int: ...
    def lookup_async(
        self, position: int, indices: ArrayLike, out: Any, raw: bool, bounds: str
    ) -> PendingCall: ...
    def embedding_bag_async(
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
    ) -> PendingCall: ...
    def update(
        self, position: int, indices: ArrayLike, values: ArrayLike, in_bulk: bool = False
    ) -> None: ...
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
