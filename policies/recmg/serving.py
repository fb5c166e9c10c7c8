"""The trained policy beside serving: what a store's policy runtime asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tieralloc.policies.recmg.policy import RecmgCachingPolicy, RecmgPolicy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc._advising import FindAbsent
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
        self._prefetcher = policy.prefetcher(fast_rows)
        self._ahead_scorer = policy.models.ahead_scorer()

    def observe(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        """Take note of accesses, (n,), of samples of so many rows each."""
        self._history.observe(rows, lengths)
        if self._prefetcher is not None:
            self._prefetcher.observe(rows, lengths)

    def score(self, rows: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Score rows, (n,): the lowest leave first."""
        return self._scorer(self._history.features(rows))

    def prefetches(self, find_absent: FindAbsent) -> NDArray[np.uint64]:
        """Choose rows to be fetched, the likeliest first, among those that are absent."""
        if self._prefetcher is None or self._ahead_scorer is None:
            return np.empty(0, dtype=np.uint64)
        rows, features = self._prefetcher.candidates(self._history, find_absent)
        if len(rows) == 0:
            return rows
        return self._prefetcher.choose(rows, self._ahead_scorer(features))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that what it knows of rows takes."""
        related = 0 if self._prefetcher is None else self._prefetcher.nbytes
        return self._history.nbytes + related


def make_brain(directory: PolicyDirectory, fast_rows: int) -> RecmgBrain:
    """Make the brain of a policy directory, for a fast tier of so many rows.

    Raises
    ------
    ValueError
        As `RecmgPolicy.load`.
    """
    return RecmgBrain(RecmgPolicy.load(directory.path), fast_rows)


def make_caching_brain(directory: PolicyDirectory, fast_rows: int) -> RecmgBrain:
    """Make a brain as `make_brain` does, which fetches nothing ahead."""
    return RecmgBrain(RecmgCachingPolicy.load(directory.path), fast_rows)
