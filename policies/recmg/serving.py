"""The trained policy beside serving: what a store's policy runtime asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tieralloc.policies.recmg.policy import RecmgCachingPolicy, RecmgPolicy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tieralloc._advising import FindAbsent
    from tieralloc._core import Prefetcher
    from tieralloc.policies.recmg.memory import Memory
    from tieralloc.policies.recmg.policy import Score
    from tieralloc.policy_directory import PolicyDirectory


class RecmgBrain:
    """Remembers accesses and scores rows as the simulator does.

    Parameters
    ----------
    policy : RecmgPolicy
        Trained.
    fast_rows : int
        Rows of the fast tier.
    memory : Memory
        How much it remembers.
    """

    def __init__(self, policy: RecmgPolicy, fast_rows: int, memory: Memory) -> None:
        self._history = policy.history(memory)
        self._scorer = policy.models.scorer(fast_rows)

    def observe(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        """Take note of accesses, (n,), of samples of so many rows each."""
        self._history.observe(rows, lengths)

    def score(self, rows: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Score rows, (n,): the lowest leave first."""
        return self._scorer(self._history.features(rows))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that what it knows of rows takes."""
        return self._history.nbytes


class RecmgAheadBrain(RecmgBrain):
    """One that also has rows fetched ahead.

    Parameters
    ----------
    policy, fast_rows, memory
        As for `RecmgBrain`.
    prefetcher : Prefetcher
        Which knows nothing yet.
    score_ahead : callable
        As of `Models.ahead_scorer`.
    """

    def __init__(
        self,
        policy: RecmgPolicy,
        fast_rows: int,
        memory: Memory,
        prefetcher: Prefetcher,
        score_ahead: Score,
    ) -> None:
        super().__init__(policy, fast_rows, memory)
        self.looks_ahead = True
        self._prefetcher = prefetcher
        self._score_ahead = score_ahead

    def observe(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        """Take note of accesses, (n,), of samples of so many rows each."""
        super().observe(rows, lengths)
        if self.looks_ahead:
            self._prefetcher.observe(rows, lengths)
        else:
            self._prefetcher.learn(rows, lengths)

    def prefetches(self, find_absent: FindAbsent) -> NDArray[np.uint64]:
        """Choose rows to be fetched, the likeliest first, among those that are absent."""
        rows, features = self._prefetcher.candidates(self._history, find_absent)
        if len(rows) == 0:
            return rows
        return self._prefetcher.choose(rows, self._score_ahead(features))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that what it knows of rows takes."""
        return super().nbytes + self._prefetcher.nbytes


def _brain(policy: RecmgPolicy, fast_rows: int, most_bytes: int | None) -> RecmgBrain:
    memory = policy.memory(fast_rows, most_bytes)
    prefetcher, score_ahead = policy.prefetcher(memory), policy.models.ahead_scorer()
    if prefetcher is None or score_ahead is None:
        return RecmgBrain(policy, fast_rows, memory)
    return RecmgAheadBrain(policy, fast_rows, memory, prefetcher, score_ahead)


def make_brain(
    directory: PolicyDirectory, fast_rows: int, most_bytes: int | None = None
) -> RecmgBrain:
    """Make the brain of a policy directory, for a fast tier of so many rows.

    Parameters
    ----------
    directory : PolicyDirectory
        Where it is trained.
    fast_rows : int
        Rows of the fast tier.
    most_bytes : int, optional
        That what it remembers may take; without it, as many as are worth it.

    Raises
    ------
    ValueError
        As `RecmgPolicy.load`, and for too few bytes.
    """
    return _brain(RecmgPolicy.load(directory.path), fast_rows, most_bytes)


def make_caching_brain(
    directory: PolicyDirectory, fast_rows: int, most_bytes: int | None = None
) -> RecmgBrain:
    """Make a brain as `make_brain` does, which fetches nothing ahead."""
    return _brain(RecmgCachingPolicy.load(directory.path), fast_rows, most_bytes)
