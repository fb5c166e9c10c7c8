"""Synthetic traces with a recommender's reuse histogram, sessions, topics and drift.

The steps: draw bag lengths; draw the access count of each row from the reuse histogram; assign
rows to tables; place the accesses of each row in bags. `generate` describes the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tieralloc.trace.popularity import (
    META_REUSE_SHARES,
    UBIQUITOUS,
    assign_to_tables,
    draw_counts,
    max_row_accesses,
    normalised_shares,
    table_sizes,
)
from tieralloc.trace.trace import Trace

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

#: Mean number of sessions at one time.
_CONCURRENT_SESSIONS = 16
#: Min width of the topic interval of a row; topics range from 0 to 1.
_MIN_TOPIC_WIDTH = 0.01
#: Min and max lifetime of a transient row, as shares of the trace.
_LIFETIME = (1 / 32, 1 / 2)
#: Max passes that move repeated rows out of a bag.
_MAX_REPEAT_PASSES = 4


class _Placement(NamedTuple):
    """The parameters that determine the bags of a row's accesses."""

    session_length: float
    session_reuse: float
    topic_affinity: float
    drift: float


def generate(
    *,
    num_tables: int = 8,
    num_samples: int = 32768,
    mean_pooling_factor: float | Sequence[float] = 2.5,
    num_embeddings: int | Sequence[int] | None = None,
    reuse_shares: Sequence[float] = META_REUSE_SHARES,
    session_length: float = 8.0,
    session_reuse: float = 0.5,
    topic_affinity: float = 0.8,
    drift: float = 0.3,
    seed: int = 0,
    name: str = "synthetic",
) -> Trace:
    """Generate a trace with the reuse histogram of Meta's lookups.

    The reuse factor of a row is its number of accesses in the whole trace. `generate` draws the
    reuse factor of every row from the histogram, so the histogram holds by construction. It then
    places the accesses in bags according to sessions, topics and drift.

    **Scale.** The bins are not rescaled. A smaller trace corresponds to Meta's with a sample of
    the rows and all accesses to them. This preserves the histogram and the ratio of rows to
    lookups (1 to 7). A small trace cannot have some bins, because a row has at most one access
    per sample, and a bin has at least one row. Such a bin adds its share to the next lower bin
    (see `scaled_reuse_shares`). With the default parameters all bins exist.

    **Sessions.** Each sample belongs to a session; sessions interleave in time. With probability
    `session_reuse`, the next access to a row is in one of the next samples of the same session.
    Sessions and rows have topics. With probability `topic_affinity`, a row is accessed in a
    session with a topic close to its own, so that rows of all tables recur together.

    **Drift.** A share `drift` of the rows is transient: accessed only during 1/32 to 1/2 of the
    trace. Rows in more than 1/32 of the samples belong to no session, topic or time. Every row
    keeps a time and topic range with enough samples for its accesses.

    Parameters
    ----------
    num_tables, num_samples : int
        At least 1.
    mean_pooling_factor : float or (T,) sequence of float
        Mean lookups per bag, above 0. One number is the mean over the tables, whose factors then
        differ up to 16 times. Up to 1, a bag has no or one lookup; above 1, it has one or more,
        geometrically distributed.
    num_embeddings : int or (T,) sequence of int, optional
        Number of rows, of all tables together or per table. Default: twice the accessed rows of
        each table.
    reuse_shares : (16,) sequence of float
        Share of the accesses for each bin of `REUSE_BIN_EDGES`; scaled to add up to 1.
    session_length : float
        Mean samples per session, at least 1.
    session_reuse, topic_affinity, drift : float
        From 0 (off) to 1; `session_reuse` below 1.
    seed : int
        Random seed: the same arguments give the same trace.
    name : str
        The name of the trace.

    Returns
    -------
    Trace
        Rows are numbered in random order, as after hashing. A bag may repeat a row.

    Raises
    ------
    ValueError
        For an argument out of range, or tables too small for the accessed rows.
    """
    placement = _Placement(session_length, session_reuse, topic_affinity, drift)
    _check_parameters(num_tables, num_samples, placement)
    rng = np.random.default_rng(seed)
    factors = _pooling_factors(mean_pooling_factor, num_tables, rng)
    lengths = _draw_lengths(factors, num_samples, rng)
    shares = normalised_shares(reuse_shares)
    counts = draw_counts(int(lengths.sum()), max_row_accesses(lengths), shares, rng)
    requested = None if num_embeddings is None else np.asarray(num_embeddings, dtype=np.int64)
    tables = assign_to_tables(counts, lengths, requested, rng)
    sizes = table_sizes(tables, requested)

    sessions = _Sessions.draw(num_samples, session_length, rng)
    indices = []
    for table, size, bag_lengths in zip(tables, sizes, lengths, strict=True):
        rows = _place(table, bag_lengths, sessions, placement, rng)
        indices.append(rng.permutation(size)[rows])
    return Trace.from_lengths(
        np.concatenate(indices), lengths, [f"t{t}" for t in range(num_tables)], sizes, name
    )


def _check_parameters(num_tables: int, num_samples: int, placement: _Placement) -> None:
    for name, value in (
        ("num_tables", num_tables),
        ("num_samples", num_samples),
        ("session_length", placement.session_length),
    ):
        if not 1 <= value < np.inf:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if not 0 <= placement.session_reuse < 1:
        raise ValueError(
            f"session_reuse: expected at least 0 and below 1, got {placement.session_reuse}"
        )
    for name, share in (("topic_affinity", placement.topic_affinity), ("drift", placement.drift)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name}: expected 0 to 1, got {share}")


def _pooling_factors(
    mean_pooling_factor: float | Sequence[float], num_tables: int, rng: Generator
) -> NDArray[np.float64]:
    factors = np.asarray(mean_pooling_factor, dtype=np.float64)
    if factors.ndim == 0:
        factors = factors * rng.permutation(_spread(num_tables))
    if factors.shape != (num_tables,):
        raise ValueError(
            f"mean_pooling_factor: expected {num_tables} values, one per table, got {factors.size}"
        )
    if not (factors > 0).all() or not np.isfinite(factors).all():
        raise ValueError(
            f"mean_pooling_factor: expected finite numbers above 0, got {mean_pooling_factor}"
        )
    return factors


def _spread(num_tables: int) -> NDArray[np.float64]:
    """Return multipliers with mean 1; the largest is 16 times the smallest."""
    multipliers = 2 ** np.linspace(-2, 2, num_tables)
    return np.asarray(multipliers / multipliers.mean())


def _draw_lengths(
    factors: NDArray[np.float64], num_samples: int, rng: Generator
) -> NDArray[np.int32]:
    """Draw the bag lengths, (T, B)."""
    lengths = np.empty((len(factors), num_samples), dtype=np.int32)
    for table, factor in enumerate(factors):
        if factor <= 1:
            lengths[table] = rng.random(num_samples) < factor
        else:
            lengths[table] = rng.geometric(1 / factor, num_samples)
    return lengths


class _Sessions(NamedTuple):
    """The samples, sorted by epoch, topic and time.

    An epoch is an interval of session starts; within an epoch, sessions are sorted by topic.
    """

    samples: NDArray[np.int64]  # (B,)
    session: NDArray[np.int64]  # (B,) session of each sample
    epoch: NDArray[np.int64]  # (B,) epoch of each sample
    length: NDArray[np.int64]  # (S,) number of samples of each session

    @classmethod
    def draw(cls, num_samples: int, session_length: float, rng: Generator) -> _Sessions:
        is_first = rng.random(num_samples) < 1 / session_length
        is_first[0] = True
        session = np.cumsum(is_first) - 1
        num_sessions = int(session[-1]) + 1
        begin = np.sort(rng.random(num_sessions)) * num_samples
        elapsed = np.cumsum(rng.exponential(_CONCURRENT_SESSIONS, num_samples))
        time = begin[session] + elapsed - elapsed[is_first][session]
        sample = np.empty(num_samples, dtype=np.int64)
        sample[np.argsort(time)] = np.arange(num_samples)

        # A trade-off between time and topic: an epoch has twice as many sessions as there are
        # epochs, so topics are resolved twice as finely as time.
        num_epochs = round(np.sqrt(num_sessions / 2)) or 1
        epoch = np.arange(num_sessions) * num_epochs // num_sessions
        by_topic = np.lexsort((rng.random(num_sessions), epoch))
        rank = np.empty(num_sessions, dtype=np.int64)
        rank[by_topic] = np.arange(num_sessions)
        order = np.argsort(rank[session], kind="stable")
        return cls(
            sample[order],
            rank[session][order],
            epoch[session][order],
            np.bincount(session)[by_topic],
        )


class _Visits(NamedTuple):
    """Visits: runs of accesses to one row in one session, with the preferred time and topic."""

    row: NDArray[np.int64]
    size: NDArray[np.int64]  # accesses
    time: NDArray[np.float64]  # 0 to 1, a share of the trace
    topic: NDArray[np.float64]  # 0 to 1


def _place(
    counts: NDArray[np.int64],
    lengths: NDArray[np.int32],
    sessions: _Sessions,
    placement: _Placement,
    rng: Generator,
) -> NDArray[np.int64]:
    """Place the accesses to a table's rows in its bags; return the row of each lookup."""
    free = lengths.copy()
    counts = counts.copy()
    samples, rows = [], []
    for row in np.flatnonzero(counts > UBIQUITOUS * len(lengths)).tolist():
        bags = _draw_bags(free, int(counts[row]), rng)
        free[bags] -= 1
        counts[row] -= len(bags)
        samples.append(bags)
        rows.append(np.full(len(bags), row))
    visits = _draw_visits(counts, len(sessions.length), placement, rng)
    free_samples = np.repeat(sessions.samples, free[sessions.samples])
    samples.append(free_samples)
    rows.append(_spread_repeats(_match_visits(visits, free, sessions, rng), free_samples))
    sample_of_lookup = np.concatenate(samples)
    order = np.lexsort((rng.random(len(sample_of_lookup)), sample_of_lookup))
    return np.concatenate(rows)[order]


def _draw_bags(free: NDArray[np.int32], count: int, rng: Generator) -> NDArray[np.int64]:
    """Draw distinct bags, weighted by their free lookups; at most the number of non-full bags."""
    bags = np.flatnonzero(free)
    if count >= len(bags):
        return bags
    arrival = rng.exponential(size=len(bags)) / free[bags]
    return bags[np.argpartition(arrival, count)[:count]]


def _draw_visits(
    counts: NDArray[np.int64], num_sessions: int, placement: _Placement, rng: Generator
) -> _Visits:
    num_rows, lookups = len(counts), int(counts.sum())
    row_of_lookup = np.repeat(np.arange(num_rows), counts)
    nth = np.arange(lookups) - np.repeat(np.cumsum(counts) - counts, counts)
    # A visit longer than its session would repeat the row in a bag.
    is_first = rng.random(lookups) >= placement.session_reuse
    is_first |= nth % max(round(placement.session_length), 1) == 0
    first = np.flatnonzero(is_first)
    row = row_of_lookup[first]
    size = np.diff(first, append=lookups)

    # The min share of the sessions for the visits of a row: two sessions per visit.
    min_share = np.minimum(2 * np.bincount(row, minlength=num_rows) / num_sessions, 1)
    min_lifetime, max_lifetime = _LIFETIME
    lifetime = min_lifetime * (max_lifetime / min_lifetime) ** rng.random(num_rows)
    lifetime[rng.random(num_rows) >= placement.drift] = 1
    lifetime = np.maximum(lifetime, min_share)
    birth = rng.random(num_rows) * (1 - lifetime)
    time = birth[row] + lifetime[row] * rng.random(len(row))

    width = np.clip(min_share / lifetime, _MIN_TOPIC_WIDTH, 1)
    centre = rng.random(num_rows)
    topic = (centre[row] + width[row] * (rng.random(len(row)) - 0.5)) % 1
    is_off_topic = rng.random(len(row)) >= placement.topic_affinity
    topic[is_off_topic] = rng.random(np.count_nonzero(is_off_topic))
    return _Visits(row, size, time, topic)


def _match_visits(
    visits: _Visits, free: NDArray[np.int32], sessions: _Sessions, rng: Generator
) -> NDArray[np.int64]:
    """Match visits with the free lookups of the bags, in the order of `sessions`.

    Visits and free lookups are sorted by epoch and topic and matched by rank: every free lookup
    gets a row, close to the time and topic of the visit.
    """
    num_free = free[sessions.samples]
    session = np.repeat(sessions.session, num_free)
    epoch_ends = np.cumsum(np.bincount(sessions.epoch, weights=num_free))
    by_time = np.argsort(visits.time)
    epoch = np.searchsorted(epoch_ends, np.cumsum(visits.size[by_time]) - 1, side="right")
    order = by_time[np.lexsort((visits.topic[by_time], epoch))]

    sizes = visits.size[order]
    visit = np.repeat(np.arange(len(order)), sizes)
    nth = np.arange(len(visit)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # A visit begins at a random sample of its session and continues sample by sample.
    spare = np.maximum(sessions.length[session] - sizes[visit], 0)
    step = rng.random(len(order))[visit] * spare + nth
    return visits.row[order][visit[np.lexsort((step, session))]]


def _spread_repeats(rows: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rotate repeated rows between the bags that repeat a row; a few repeats remain."""
    rows = rows.copy()
    for _ in range(_MAX_REPEAT_PASSES):
        order = np.lexsort((rows, samples))
        is_repeat = (np.diff(rows[order]) == 0) & (np.diff(samples[order]) == 0)
        repeats = np.sort(order[1:][is_repeat])
        rows[repeats] = np.roll(rows[repeats], 1)
    return rows
