"""Context tables: their row identifies the subject of a sample, such as a user or a session.

A table is a context if its row tends to be the same in two samples that share a row of another
table. The measure is P(same) log(P(same) ÷ P(same by chance)), in nats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tieralloc._bindings import MAX_CONTEXTS, next_uses

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_PAIRS = 1 << 15
_MIN_INFORMATION = 0.05  # nats


def find_contexts(
    accesses: NDArray[np.uint64],
    sample_lengths: NDArray[np.uint32],
    table_starts: NDArray[np.uint64],
    seed: int,
) -> list[int]:
    """Return up to `MAX_CONTEXTS` context tables, the most informative first.

    The arguments are the fields of a `Stream`, and the random seed of the pairs of accesses.
    """
    num_tables = len(table_starts) - 1
    if num_tables == 1:
        return []
    tables = np.searchsorted(table_starts, accesses, side="right") - 1
    samples = np.repeat(np.arange(len(sample_lengths)), sample_lengths)
    pairs = _draw_reuses(accesses, samples, int(table_starts[-1]), seed)
    information = []
    for table in range(num_tables):
        others = tables[pairs[0]] != table
        firsts = _first_rows(accesses, samples, tables == table, len(sample_lengths))
        information.append(_information(firsts, samples[pairs[:, others]]))
    order = np.argsort(-np.array(information), kind="stable")
    return [int(table) for table in order[:MAX_CONTEXTS] if information[table] > _MIN_INFORMATION]


def _draw_reuses(
    accesses: NDArray[np.uint64], samples: NDArray[np.int64], rows: int, seed: int
) -> NDArray[np.int64]:
    """Draw accesses and the next ones to the same rows, in other samples, (2, pairs)."""
    following = next_uses(accesses, rows).astype(np.int64)
    earlier = np.flatnonzero(following < len(accesses))
    earlier = earlier[samples[earlier] != samples[following[earlier]]]
    if len(earlier) > _MAX_PAIRS:
        earlier = np.random.default_rng(seed).choice(earlier, _MAX_PAIRS, replace=False)
    return np.stack([earlier, following[earlier]])


def _first_rows(
    accesses: NDArray[np.uint64],
    samples: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    num_samples: int,
) -> NDArray[np.int64]:
    """Return the first row of each sample among the chosen accesses; -1 if there is none."""
    firsts = np.full(num_samples, -1, dtype=np.int64)
    positions = np.flatnonzero(chosen)[::-1]
    firsts[samples[positions]] = accesses[positions].view(np.int64)
    return firsts


def _information(firsts: NDArray[np.int64], pairs: NDArray[np.int64]) -> float:
    """Return the information of a table about pairs of samples; see the module."""
    before, after = firsts[pairs]
    if not (before >= 0).any():
        return 0.0
    same = float(np.mean((before >= 0) & (before == after)))
    present = firsts[firsts >= 0]
    rows, counts = np.unique(present, return_counts=True)
    popularity = counts[np.searchsorted(rows, before[before >= 0])] / len(present)
    return same * float(np.log(same / popularity.mean())) if same > 0 else 0.0
