"""Popularity: the access count and the table of each row of a synthetic trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from tieralloc.trace.trace import Trace

#: Bin ``i`` of a reuse histogram contains rows with more than ``REUSE_BIN_EDGES[i]`` and at most
#: ``REUSE_BIN_EDGES[i + 1]`` accesses; the last bin has no upper edge.
REUSE_BIN_EDGES = (0, *(1 << power for power in range(15)))

#: Share of the accesses per bin in Meta's embedding lookups of 2021: 887 million lookups of 128
#: million rows. The published shares add up to 1.001.
META_REUSE_SHARES = (
    0.069, 0.044, 0.068, 0.101, 0.121, 0.104, 0.073, 0.058,
    0.052, 0.050, 0.049, 0.048, 0.048, 0.043, 0.031, 0.042,
)  # fmt: skip

#: A row is ubiquitous if its accesses exceed this share of the samples: it belongs to no session,
#: topic or time.
UBIQUITOUS = 1 / 32
#: Standard deviations of log2 of the access count before rows are sorted; widest first.
_POPULARITY_SCATTER = (2.0, 1.0, 0.5, 0.25, 0.0)


def reuse_histogram(trace: Trace) -> NDArray[np.float64]:
    """Return the share of a trace's accesses per bin of reuse factors.

    Returns
    -------
    (16,) float64
        One share per bin of `REUSE_BIN_EDGES`. The shares add up to 1; without lookups all are 0.
    """
    counts = np.bincount(trace.accesses().view(np.int64))
    bins = np.searchsorted(REUSE_BIN_EDGES[1:], counts, side="left")
    lookups = np.bincount(bins, weights=counts, minlength=len(META_REUSE_SHARES))
    return np.asarray(lookups / max(trace.num_lookups, 1), dtype=np.float64)


def scaled_reuse_shares(
    num_lookups: int, max_count: int, reuse_shares: Sequence[float] = META_REUSE_SHARES
) -> NDArray[np.float64]:
    """Return the closest reuse histogram of a trace with `num_lookups` lookups.

    A bin adds its share to the next lower bin in two cases: its lookups are too few for one row,
    or its rows would have more than `max_count` accesses.

    Returns
    -------
    (16,) float64
        The shares add up to 1.
    """
    shares = normalised_shares(reuse_shares)
    for bin_ in range(len(shares) - 1, 0, -1):
        min_count = REUSE_BIN_EDGES[bin_] + 1
        if min_count > min(max_count, round(shares[bin_] * num_lookups)):
            shares[bin_ - 1] += shares[bin_]
            shares[bin_] = 0
    return shares


def normalised_shares(reuse_shares: Sequence[float]) -> NDArray[np.float64]:
    """Return the shares of the bins, scaled to add up to 1; ValueError for invalid shares."""
    shares: NDArray[np.float64] = np.array(reuse_shares, dtype=np.float64)
    if shares.shape != (len(META_REUSE_SHARES),):
        raise ValueError(
            f"reuse_shares: expected shape ({len(META_REUSE_SHARES)},), got {shares.shape}"
        )
    if not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
        raise ValueError(
            "reuse_shares: expected non-negative numbers with a positive finite sum, got"
            f" {shares.tolist()}"
        )
    shares /= shares.sum()
    return shares


def draw_counts(
    num_lookups: int, max_count: int, reuse_shares: NDArray[np.float64], rng: Generator
) -> NDArray[np.int64]:
    """Draw the access count of each row; the counts add up to `num_lookups`.

    Within a bin, accesses are uniform in the logarithm of the count.
    """
    shares = scaled_reuse_shares(num_lookups, max_count, reuse_shares.tolist())
    edges = [*REUSE_BIN_EDGES, 4 * REUSE_BIN_EDGES[-1]]
    counts = []
    remaining = 0.0
    for bin_ in range(len(shares) - 1, 0, -1):
        remaining += shares[bin_] * num_lookups
        bin_counts = _draw_bin(edges[bin_], min(edges[bin_ + 1], max_count), remaining, rng)
        counts.append(bin_counts)
        remaining -= bin_counts.sum()
    num_singles = num_lookups - sum(int(bin_counts.sum()) for bin_counts in counts)
    counts.append(np.ones(num_singles, dtype=np.int64))
    return np.concatenate(counts)


def _draw_bin(low: int, high: int, lookups: float, rng: Generator) -> NDArray[np.int64]:
    """Draw counts above `low` and up to `high`; the sum is at most `lookups`."""
    max_rows = int(lookups / (low + 1)) if high > low else 0
    if max_rows < 1:
        return np.empty(0, dtype=np.int64)
    mean = np.log(high / low) / (1 / low - 1 / high)
    rows = int(np.clip(round(lookups / mean), min(np.ceil(lookups / high), max_rows), max_rows))
    quantiles = (np.arange(rows) + rng.random(rows)) / rows
    real_counts = 1 / (1 / high + quantiles * (1 / low - 1 / high))
    # Rounding the cumulative sum keeps the error of the sum below 1 before clipping.
    real_counts *= lookups / real_counts.sum()
    rounded = np.diff(np.floor(np.cumsum(real_counts)), prepend=0)
    counts = np.clip(rounded.astype(np.int64), low + 1, high)
    while counts.sum() > lookups:
        excess = int(np.ceil(counts.sum() - lookups))
        reducible = np.flatnonzero(counts > low + 1)[:excess]
        counts[reducible] -= 1
    return counts


def max_row_accesses(lengths: NDArray[np.int32]) -> int:
    """Return the max accesses of one row: one per non-empty bag of a table."""
    return int((lengths > 0).sum(axis=1).max())


def assign_to_tables(
    counts: NDArray[np.int64],
    lengths: NDArray[np.int32],
    num_embeddings: NDArray[np.int64] | None,
    rng: Generator,
) -> list[NDArray[np.int64]]:
    """Assign each row to a table; return the access counts of each table's rows.

    The counts of a table's rows add up to its lookups. If `num_embeddings` has one number per
    table, the rows fit: the widest scatter of `_POPULARITY_SCATTER` is used with which they do.
    """
    is_ubiquitous = counts > UBIQUITOUS * lengths.shape[1]
    ubiquitous, free = _assign_ubiquitous(counts[is_ubiquitous], lengths, rng)
    other_counts = counts[~is_ubiquitous]
    if num_embeddings is None or num_embeddings.ndim == 0:
        order = rng.permutation(len(free))
        others = _assign_others(other_counts, free, order, _POPULARITY_SCATTER[0], rng)
        return [np.concatenate(pair) for pair in zip(ubiquitous, others, strict=True)]
    sizes = num_embeddings.tolist()
    if num_embeddings.shape != free.shape or (num_embeddings < 1).any():
        raise ValueError(
            f"num_embeddings: expected at least 1 for each of {len(free)} tables, got {sizes}"
        )
    # Tables with few rows per lookup need popular rows: they are filled first.
    order = np.argsort(num_embeddings / np.maximum(lengths.sum(axis=1), 1))
    for scatter in _POPULARITY_SCATTER:
        others = _assign_others(other_counts, free, order, scatter, rng)
        tables = [np.concatenate(pair) for pair in zip(ubiquitous, others, strict=True)]
        if all(len(table) <= size for table, size in zip(tables, sizes, strict=True)):
            return tables
    raise ValueError(
        "num_embeddings: too few for the rows of the lookups; expected at least about"
        f" {[len(table) for table in tables]}, got {sizes}"
    )


def _assign_ubiquitous(
    counts: NDArray[np.int64], lengths: NDArray[np.int32], rng: Generator
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Assign ubiquitous rows to tables with enough bags; also return the remaining lookups."""
    free = lengths.sum(axis=1, dtype=np.int64)
    bags = (lengths > 0).sum(axis=1)
    assigned: list[list[int]] = [[] for _ in free]
    pending = np.sort(counts).tolist()
    while pending:
        count = pending.pop()
        capacities = np.minimum(free, bags)
        weights = np.where(capacities >= count, free, 0)
        if weights.any():
            table = int(rng.choice(len(free), p=weights / weights.sum()))
        else:  # No table has enough bags: split the row into two rows of two tables.
            table = int(capacities.argmax())
            pending.append(count - int(capacities[table]))
            count = int(capacities[table])
        assigned[table].append(count)
        free[table] -= count
    return [np.array(table_counts, dtype=np.int64) for table_counts in assigned], free


def _assign_others(
    counts: NDArray[np.int64],
    free: NDArray[np.int64],
    order: NDArray[np.int64],
    scatter: float,
    rng: Generator,
) -> list[NDArray[np.int64]]:
    """Fill the tables in `order` with rows of descending popularity plus noise of `scatter`."""
    popularity = np.log2(counts) + scatter * rng.standard_normal(len(counts))
    row_ends = np.cumsum(counts[np.argsort(-popularity)])
    table_ends = np.cumsum(free[order])
    # A row across the boundary of two tables is split into one row of each.
    # np.union1d would hash the ends, which takes much longer than sorting them.
    ends = np.sort(np.concatenate([row_ends, table_ends[table_ends > 0]]), kind="stable")
    ends = ends[np.diff(ends, prepend=0) > 0]
    split_counts = np.diff(ends, prepend=0)
    bounds = np.searchsorted(ends, table_ends, side="right")
    assigned: list[NDArray[np.int64]] = [split_counts[:0]] * len(free)
    for table, begin, end in zip(order.tolist(), [0, *bounds[:-1]], bounds, strict=True):
        assigned[table] = split_counts[begin:end]
    return assigned


def table_sizes(
    tables: list[NDArray[np.int64]], num_embeddings: NDArray[np.int64] | None
) -> list[int]:
    """Return the number of rows of each table, at least its number of accessed rows."""
    min_sizes = [max(len(table), 1) for table in tables]
    if num_embeddings is None:
        return [2 * rows for rows in min_sizes]
    if num_embeddings.ndim:
        return [int(rows) for rows in num_embeddings]
    total = sum(min_sizes)
    if num_embeddings < total:
        raise ValueError(f"num_embeddings: expected at least {total} rows, got {num_embeddings}")
    ends = np.cumsum(min_sizes, dtype=np.int64) * num_embeddings // total
    return [int(rows) for rows in np.diff(ends, prepend=0)]
