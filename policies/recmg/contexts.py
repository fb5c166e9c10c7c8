"""Context tables: their row identifies what a sample is about, such as a user or a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tieralloc._bindings import MAX_CONTEXTS, next_uses

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PAIRS = 1 << 15
_MIN_INFORMATION = 0.05  # nats


def find_contexts(
    accesses: NDArray[np.uint64],
    sample_lengths: NDArray[np.uint32],
    table_starts: NDArray[np.uint64],
    seed: int,
) -> list[int]:
    """Find the tables whose row is the same when a row comes back, more often than by chance.

    Parameters
    ----------
    accesses : (n,) uint64
        Rows, in order.
    sample_lengths : (B,) uint32
        Accesses of each sample.
    table_starts : (T + 1,) uint64
        Table ``t`` has rows ``table_starts[t]`` to ``table_starts[t + 1] - 1``.
    seed : int
        Random seed of the pairs of accesses that are compared.

    Returns
    -------
    list of int
        Numbers of up to `MAX_CONTEXTS` tables, the most informative first.
    """
    num_tables = len(table_starts) - 1
    if num_tables == 1:
        return []
    tables = np.searchsorted(table_starts, accesses, side="right") - 1
    samples = np.repeat(np.arange(len(sample_lengths)), sample_lengths)
    pairs = _returns(accesses, samples, int(table_starts[-1]), seed)
    information = []
    for table in range(num_tables):
        others = tables[pairs[0]] != table
        firsts = _first_rows(accesses, samples, tables == table, len(sample_lengths))
        information.append(_information(firsts, samples[pairs[:, others]]))
    order = np.argsort(-np.array(information), kind="stable")
    return [int(table) for table in order[:MAX_CONTEXTS] if information[table] > _MIN_INFORMATION]


def _returns(
    accesses: NDArray[np.uint64], samples: NDArray[np.int64], rows: int, seed: int
) -> NDArray[np.int64]:
    """Draw accesses and the next ones to the same rows, in other samples, (2, pairs)."""
    following = next_uses(accesses, rows).astype(np.int64)
    earlier = np.flatnonzero(following < len(accesses))
    earlier = earlier[samples[earlier] != samples[following[earlier]]]
    if len(earlier) > _PAIRS:
        earlier = np.random.default_rng(seed).choice(earlier, _PAIRS, replace=False)
    return np.stack([earlier, following[earlier]])


def _first_rows(
    accesses: NDArray[np.uint64],
    samples: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    num_samples: int,
) -> NDArray[np.int64]:
    """Find the first row of each sample among chosen accesses; -1 where there is none."""
    firsts = np.full(num_samples, -1, dtype=np.int64)
    positions = np.flatnonzero(chosen)[::-1]
    firsts[samples[positions]] = accesses[positions].view(np.int64)
    return firsts


def _information(firsts: NDArray[np.int64], pairs: NDArray[np.int64]) -> float:
    """Tell how much more often than by chance a table has one row in both samples of a pair."""
    before, after = firsts[pairs]
    if not (before >= 0).any():
        return 0.0
    same = float(np.mean((before >= 0) & (before == after)))
    present = firsts[firsts >= 0]
    rows, counts = np.unique(present, return_counts=True)
    popularity = counts[np.searchsorted(rows, before[before >= 0])] / len(present)
    return same * float(np.log(same / popularity.mean())) if same > 0 else 0.0
