"""The trained policy beside serving: what a store's policy runtime asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tieralloc._core import GuidedSimulator
from tieralloc.policies.paper.models import CHUNK
from tieralloc.policies.paper.policy import PaperPolicy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc._advising import FindAbsent
    from tieralloc.policy_directory import PolicyDirectory


class PaperBrain:
    """Decides chunk by chunk as the simulator does, and scores rows by their priorities there.

    Priorities decay as evictions proceed, and of equal ones the oldest goes first: the simulator
    beside the store knows of both.

    Parameters
    ----------
    policy : PaperPolicy
        Trained. The models of its nearest capacity decide.
    fast_rows : int
        Rows of the fast tier.
    """

    def __init__(self, policy: PaperPolicy, fast_rows: int) -> None:
        self.looks_ahead = True
        self._policy = policy
        self._models = policy.models(fast_rows)
        self._tier = GuidedSimulator(
            fast_rows, policy.rows, chunk=CHUNK, eviction_speed=self._models.eviction_speed
        )
        self._rest = np.empty(0, dtype=np.uint64)  # of a chunk that is not whole yet
        self._ahead = np.empty(0, dtype=np.uint64)

    def observe(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        """Take note of accesses, (n,), and decide on those whose chunks are whole."""
        rows = np.concatenate([self._rest, rows])
        whole = rows[: len(rows) // CHUNK * CHUNK]
        self._rest = rows[len(whole) :]
        keep, ahead = self._policy.decide(self._models, whole, ahead=self.looks_ahead)
        offsets = np.arange(len(ahead) + 1, dtype=np.uint64) * np.uint64(ahead.shape[1])
        self._ahead = ahead.ravel()
        self._tier.run(whole, keep, self._ahead, offsets)

    def score(self, rows: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Score rows, (n,), by their priorities: the lowest leave first."""
        standings: NDArray[np.float64] = self._tier.standings(rows)
        # Of these nothing is decided yet: as in the simulator they stand as new ones.
        waiting = np.isin(rows, self._rest)
        standings[waiting] = np.maximum(standings[waiting], self._models.eviction_speed)
        return standings

    @property
    def nbytes(self) -> int:
        """Bytes of memory that what it knows of rows takes."""
        return self._tier.nbytes + self._policy.nbytes

    def prefetches(self, find_absent: FindAbsent) -> NDArray[np.uint64]:
        """Return the absent rows to be fetched after the chunks of the last `observe`, in order."""
        return self._ahead[find_absent(self._ahead)]


def make_brain(
    directory: PolicyDirectory, fast_rows: int, most_bytes: int | None = None
) -> PaperBrain:
    """Make the brain of a policy directory, for a fast tier of so many rows.

    Raises
    ------
    ValueError
        As `PaperPolicy.load`, and where it would take more bytes than it may: it cannot do with
        fewer.
    """
    brain = PaperBrain(PaperPolicy.load(directory.path), fast_rows)
    if most_bytes is not None and brain.nbytes > most_bytes:
        raise ValueError(
            f"policy_bytes is {most_bytes}, expected at least {brain.nbytes} for a fast tier of"
            f" {fast_rows} rows"
        )
    return brain
