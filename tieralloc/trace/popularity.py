"""Popularity: how often each row of a synthetic trace is accessed, and in which table it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from tieralloc.trace.trace import Trace

#: Bin ``i`` of a reuse histogram is for rows accessed more than ``REUSE_BIN_EDGES[i]`` times, and
#: at most ``REUSE_BIN_EDGES[i + 1]`` times; the last has no upper edge.
REUSE_BIN_EDGES = (0, *(1 << power for power in range(15)))

#: The share of the accesses that goes to rows of each bin in Meta's embedding lookups of 2021, of
#: which there are 887 million of 128 million rows. As published they add up to 1.001.
META_REUSE_SHARES = (
    0.069, 0.044, 0.068, 0.101, 0.121, 0.104, 0.073, 0.058,
    0.052, 0.050, 0.049, 0.048, 0.048, 0.043, 0.031, 0.042,
)  # fmt: skip

#: A row in more than this share of the samples belongs to no session, topic or time.
UBIQUITOUS = 1 / 32
#: Widest to narrowest scatter, in doublings, of how popular the rows of a table are.
_POPULARITY_SCATTER = (2.0, 1.0, 0.5, 0.25, 0.0)


def reuse_histogram(trace: Trace) -> NDArray[np.float64]:
    """Measure the share of a trace's accesses that goes to rows of each bin of reuse factors.

    Returns
    -------
    (16,) float64
        One a bin of `REUSE_BIN_EDGES`; they add up to 1, or are 0 where there are no lookups.
    """
    counts = np.bincount(trace.accesses().view(np.int64))
    bins = np.searchsorted(REUSE_BIN_EDGES[1:], counts, side="left")
    lookups = np.bincount(bins, weights=counts, minlength=len(META_REUSE_SHARES))
    return np.asarray(lookups / max(trace.num_lookups, 1), dtype=np.float64)


def scaled_reuse_shares(
    num_lookups: int, max_count: int, reuse_shares: Sequence[float] = META_REUSE_SHARES
) -> NDArray[np.float64]:
    """Say which reuse histogram a trace can have of so many lookups, and accesses of one row.

    A bin whose share of the lookups does not make one row of it, or whose rows would be accessed
    more than `max_count` times, leaves its share to the next lower bin.

    Returns
    -------
    (16,) float64
        Adding up to 1.
    """
    shares = checked_shares(reuse_shares)
    for bin_ in range(len(shares) - 1, 0, -1):
        least = REUSE_BIN_EDGES[bin_] + 1
        if least > min(max_count, round(shares[bin_] * num_lookups)):
            shares[bin_ - 1] += shares[bin_]
            shares[bin_] = 0
    return shares


def checked_shares(reuse_shares: Sequence[float]) -> NDArray[np.float64]:
    """Return the shares of the bins, scaled to add up to 1, once they are found sound."""
    shares: NDArray[np.float64] = np.array(reuse_shares, dtype=np.float64)
    if shares.shape != (len(META_REUSE_SHARES),):
        raise ValueError(
            f"reuse_shares have shape {shares.shape}, expected ({len(META_REUSE_SHARES)},)"
        )
    if not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
        raise ValueError(f"reuse_shares are {shares.tolist()}, expected none below 0, some above")
    shares /= shares.sum()
    return shares


def draw_counts(
    num_lookups: int, max_count: int, reuse_shares: NDArray[np.float64], rng: Generator
) -> NDArray[np.int64]:
    """Draw how often each row is accessed, adding up to `num_lookups`.

    In a bin the accesses are spread evenly over the logarithm of the count, as between bins.
    """
    shares = scaled_reuse_shares(num_lookups, max_count, reuse_shares.tolist())
    edges = [*REUSE_BIN_EDGES, 4 * REUSE_BIN_EDGES[-1]]
    counts = []
    left = 0.0
    for bin_ in range(len(shares) - 1, 0, -1):
        left += shares[bin_] * num_lookups
        drawn = _draw_bin(edges[bin_], min(edges[bin_ + 1], max_count), left, rng)
        counts.append(drawn)
        left -= drawn.sum()
    singles = num_lookups - sum(int(drawn.sum()) for drawn in counts)
    counts.append(np.ones(singles, dtype=np.int64))
    return np.concatenate(counts)


def _draw_bin(low: int, high: int, lookups: float, rng: Generator) -> NDArray[np.int64]:
    """Draw counts above `low` and up to `high`, adding up to at most `lookups`."""
    most = int(lookups / (low + 1)) if high > low else 0
    if most < 1:
        return np.empty(0, dtype=np.int64)
    mean = np.log(high / low) / (1 / low - 1 / high)
    rows = int(np.clip(round(lookups / mean), min(np.ceil(lookups / high), most), most))
    quantiles = (np.arange(rows) + rng.random(rows)) / rows
    drawn = 1 / (1 / high + quantiles * (1 / low - 1 / high))
    # The running sum is rounded, so that the sum is off by less than one before clipping.
    drawn *= lookups / drawn.sum()
    whole = np.diff(np.floor(np.cumsum(drawn)), prepend=0)
    counts = np.clip(whole.astype(np.int64), low + 1, high)
    while counts.sum() > lookups:
        excess = int(np.ceil(counts.sum() - lookups))
        above = np.flatnonzero(counts > low + 1)[:excess]
        counts[above] -= 1
    return counts


def most_bags(lengths: NDArray[np.int32]) -> int:
    """How often the hottest row may be accessed: once in every bag that one table fills."""
    return int((lengths > 0).sum(axis=1).max())


def share_out(
    counts: NDArray[np.int64],
    lengths: NDArray[np.int32],
    room: NDArray[np.int64] | None,
    rng: Generator,
) -> list[NDArray[np.int64]]:
    """Give each row to a table, so that the counts of its rows add up to its lookups.

    Where `room` says how many rows each table has, the rows fit, as little sorted by popularity
    as that allows.
    """
    ubiquitous = counts > UBIQUITOUS * lengths.shape[1]
    hot, free = _share_out_ubiquitous(counts[ubiquitous], lengths, rng)
    rest = counts[~ubiquitous]
    if room is None or room.ndim == 0:
        cold = _share_out_rest(rest, free, rng.permutation(len(free)), _POPULARITY_SCATTER[0], rng)
        return [np.concatenate(pair) for pair in zip(hot, cold, strict=True)]
    if room.shape != free.shape or (room < 1).any():
        raise ValueError(
            f"num_embeddings are {room.tolist()}, expected at least 1 for each of {len(free)}"
            " tables"
        )
    # The fewer rows a table has for its lookups, the more popular they must be.
    order = np.argsort(room / np.maximum(lengths.sum(axis=1), 1))
    for scatter in _POPULARITY_SCATTER:
        cold = _share_out_rest(rest, free, order, scatter, rng)
        tables = [np.concatenate(pair) for pair in zip(hot, cold, strict=True)]
        if all(len(table) <= rows for table, rows in zip(tables, room.tolist(), strict=True)):
            return tables
    raise ValueError(
        f"num_embeddings are {room.tolist()}, expected at least about"
        f" {[len(table) for table in tables]} for as many rows as the lookups need"
    )


def _share_out_ubiquitous(
    counts: NDArray[np.int64], lengths: NDArray[np.int32], rng: Generator
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Share out the rows so hot that a table must have bags enough; say what lookups are left."""
    free = lengths.sum(axis=1, dtype=np.int64)
    bags = (lengths > 0).sum(axis=1)
    shares: list[list[int]] = [[] for _ in free]
    pending = np.sort(counts).tolist()
    while pending:
        count = pending.pop()
        holds = np.minimum(free, bags)
        weights = np.where(holds >= count, free, 0)
        if weights.any():
            table = int(rng.choice(len(free), p=weights / weights.sum()))
        else:  # Part of it here, the others elsewhere: two rows where there should be one.
            table = int(holds.argmax())
            pending.append(count - int(holds[table]))
            count = int(holds[table])
        shares[table].append(count)
        free[table] -= count
    return [np.array(share, dtype=np.int64) for share in shares], free


def _share_out_rest(
    counts: NDArray[np.int64],
    free: NDArray[np.int64],
    order: NDArray[np.int64],
    scatter: float,
    rng: Generator,
) -> list[NDArray[np.int64]]:
    """Fill the tables in order with rows from hot to cold, scattered by doublings of the count."""
    heat = np.log2(counts) + scatter * rng.standard_normal(len(counts))
    row_ends = np.cumsum(counts[np.argsort(-heat)])
    table_ends = np.cumsum(free[order])
    # A row that straddles the end of a table is cut there, into one row of each.
    ends = np.union1d(row_ends, table_ends[table_ends > 0])
    pieces = np.diff(ends, prepend=0)
    bounds = np.searchsorted(ends, table_ends, side="right")
    shares: list[NDArray[np.int64]] = [pieces[:0]] * len(free)
    for table, begin, end in zip(order.tolist(), [0, *bounds[:-1]], bounds, strict=True):
        shares[table] = pieces[begin:end]
    return shares


def table_sizes(tables: list[NDArray[np.int64]], room: NDArray[np.int64] | None) -> list[int]:
    """Say how many rows each table has, of which its lookups touch all that it was given."""
    needed = [max(len(table), 1) for table in tables]
    if room is None:
        return [2 * rows for rows in needed]
    if room.ndim:
        return [int(rows) for rows in room]
    total = sum(needed)
    if room < total:
        raise ValueError(f"num_embeddings is {room}, expected at least {total} rows")
    ends = np.cumsum(needed, dtype=np.int64) * room // total
    return [int(rows) for rows in np.diff(ends, prepend=0)]
