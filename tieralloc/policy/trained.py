"""The interface of a trained policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tieralloc._bindings import PlannedModel
    from tieralloc.policy.directory import PolicyDirectory
    from tieralloc.trace import Trace

__all__ = ["TrainedPolicy"]


class TrainedPolicy(Protocol):
    """A trained policy, loaded by `tieralloc.policy.registry.load_policy`."""

    @property
    def name(self) -> str:
        """Its name in records."""

    @property
    def directory(self) -> PolicyDirectory:
        """Its files and manifest."""

    @property
    def rows_may_grow(self) -> bool:
        """Whether it decides on tables that have more rows than those of the training trace."""

    def check(self, trace: Trace) -> None:
        """Raise ValueError for a trace with tables that do not match the policy."""

    def model_for(self, fast_rows: int, accesses: NDArray[np.uint64] | None = None) -> PlannedModel:
        """Return the model for a fast tier of `fast_rows`.

        `accesses` are the future accesses of the model, if known. A model may use them to compute
        its decisions faster; they never change a decision.
        """
