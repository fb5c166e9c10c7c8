"""How much `recmg` remembers beside a fast tier, within what it may take."""

from __future__ import annotations

from dataclasses import dataclass

from tieralloc._core import Prefetcher, RowHistory

#: Rows that are remembered for each row of the fast tier, and accesses that are looked back over
#: for what comes beside what; fewer where these take more memory than they may.
REMEMBERED, LOGGED = 8, 256

_MOST_LOGGED = (1 << 31) - 1
_STEPS = 32  # of a bisection


@dataclass(frozen=True)
class Memory:
    """What is remembered.

    Parameters
    ----------
    rows : int
        Of which it is known what happened to them.
    accesses : int
        That are looked back over; 0 where nothing is fetched ahead.
    has_contexts : bool
        Whether there are context tables.
    """

    rows: int
    accesses: int
    has_contexts: bool

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        log = Prefetcher.bytes_for(self.accesses) if self.accesses else 0
        return RowHistory.bytes_for(self.rows, self.has_contexts) + log

    @staticmethod
    def within(
        most_bytes: int | None,
        fast_rows: int,
        *,
        rows: int,
        has_contexts: bool,
        fetches_ahead: bool,
    ) -> Memory:
        """Return what is worth remembering beside so many fast rows, or as much as may be.

        Parameters
        ----------
        most_bytes : int or None
            That it may take; None: as many as are worth it.
        fast_rows, rows : int
            Of the fast tier, and of all tables.
        has_contexts, fetches_ahead : bool
            Whether there are context tables, and whether rows are fetched ahead.

        Raises
        ------
        ValueError
            Where that is too little to remember as many rows as are resident.
        """

        def scaled(share: float) -> Memory:
            logged = min(int(share * LOGGED * fast_rows), _MOST_LOGGED)
            remembered = min(max(int(share * REMEMBERED * fast_rows), fast_rows), rows)
            return Memory(remembered, max(logged, 1) if fetches_ahead else 0, has_contexts)

        if most_bytes is None or scaled(1).nbytes <= most_bytes:
            return scaled(1)
        least = scaled(0)
        if least.nbytes > most_bytes:
            raise ValueError(
                f"policy_bytes is {most_bytes}, expected at least {least.nbytes} for a fast tier of"
                f" {fast_rows} rows"
            )
        enough, too_much = 0.0, 1.0
        for _ in range(_STEPS):
            middle = (enough + too_much) / 2
            if scaled(middle).nbytes <= most_bytes:
                enough = middle
            else:
                too_much = middle
        return scaled(enough)
