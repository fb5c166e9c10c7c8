"""The trained policy beside serving: what a store's policy runtime asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tieralloc.policies.recmg.policy import RecmgPolicy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tieralloc.policy_directory import PolicyDirectory


class RecmgBrain:
    """Remembers accesses and scores rows as the simulator does.

    Parameters
    ----------
    policy : RecmgPolicy
        Trained.
    fast_rows : int
        Rows of the fast tier.
    """

    def __init__(self, policy: RecmgPolicy, fast_rows: int) -> None:
        self._history = policy.history(fast_rows)
        self._scorer = policy.models.scorer(fast_rows)

    def observe(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        """Take note of accesses, (n,), of samples of so many rows each."""
        self._history.observe(rows, lengths)

    def score(self, rows: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Score rows, (n,): the lowest leave first."""
        return self._scorer(self._history.features(rows))


def make_brain(directory: PolicyDirectory, fast_rows: int) -> RecmgBrain:
    """Make the brain of a policy directory, for a fast tier of so many rows.

    Raises
    ------
    ValueError
        As `RecmgPolicy.load`.
    """
    return RecmgBrain(RecmgPolicy.load(directory.path), fast_rows)
