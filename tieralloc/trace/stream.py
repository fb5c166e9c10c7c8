"""The access stream of a trace, and fractions of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace.trace import Trace


@dataclass(frozen=True, eq=False)
class Stream:
    """Accesses of a trace in time order, sample by sample."""

    accesses: NDArray[np.uint64]  # (n,): rows, numbered across the tables
    lengths: NDArray[np.uint32]  # (B,): number of accesses of each sample
    #: (T + 1,): table ``t`` has rows ``table_starts[t]`` to ``table_starts[t + 1] - 1``.
    table_starts: NDArray[np.uint64]

    @classmethod
    def of(cls, trace: Trace, until: float = 1.0) -> Stream:
        """Return the first share `until` of a trace's accesses; the last sample may be truncated.

        ValueError unless `until` is in (0, 1].
        """
        if not 0 < until <= 1:
            raise ValueError(f"until: expected above 0 and at most 1, got {until}")
        accesses = trace.accesses()
        end = len(accesses) if until == 1 else first_counted(len(accesses), until)
        lengths = first_lengths(trace.lengths.sum(axis=0, dtype=np.int64), end)
        starts = np.append(trace.first_rows, trace.num_embeddings.sum()).astype(np.uint64)
        return cls(accesses[:end], lengths, starts)

    @property
    def rows(self) -> int:
        """Number of rows of all tables."""
        return int(self.table_starts[-1])

    @property
    def num_tables(self) -> int:
        """Number of tables."""
        return len(self.table_starts) - 1


def first_counted(num_accesses: int, count_from: float) -> int:
    """Return the first counted access; ValueError unless `count_from` is in [0, 1)."""
    if not 0 <= count_from < 1:
        raise ValueError(f"count_from: expected at least 0 and below 1, got {count_from}")
    return math.floor(count_from * num_accesses)


def first_lengths(lengths: NDArray[np.int64], accesses: int) -> NDArray[np.uint32]:
    """Return the sample lengths of the first `accesses` accesses; the last may be truncated."""
    ends = np.minimum(np.cumsum(lengths), accesses)
    samples = int(np.searchsorted(ends, accesses)) + 1
    return np.diff(ends, prepend=0)[:samples].astype(np.uint32)


def fast_rows(fast_fraction: float, distinct_rows: int) -> int:
    """Return the fast rows for a fraction of the distinct rows of a trace, rounded down.

    ValueError if the fraction is not in (0, 1], or results in less than one row.
    """
    if not 0 < fast_fraction <= 1:
        raise ValueError(f"fast_fraction: expected above 0 and at most 1, got {fast_fraction}")
    # The factor corrects binary rounding: without it, 0.29 of 100 rows is 28.
    rows = math.floor(fast_fraction * distinct_rows * (1 + 1e-12))
    if rows < 1:
        raise ValueError(
            f"fast_fraction: expected at least one of {distinct_rows} distinct rows, got"
            f" {fast_fraction}"
        )
    return rows


def count_distinct(accesses: NDArray[np.uint64], rows: int) -> int:
    """Return the number of distinct rows in accesses to rows 0 to ``rows - 1``."""
    seen = np.zeros(rows, dtype=bool)
    seen[accesses] = True
    return int(np.count_nonzero(seen))
