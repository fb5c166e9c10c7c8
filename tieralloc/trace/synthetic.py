"""Synthetic traces: a recommender's reuse histogram, its sessions and its drifting popularity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tieralloc.trace.popularity import (
    META_REUSE_SHARES,
    UBIQUITOUS,
    checked_shares,
    draw_counts,
    most_bags,
    share_out,
    table_sizes,
)
from tieralloc.trace.trace import Trace

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

#: Sessions that are under way at one time.
_CONCURRENT_SESSIONS = 16
#: Least width of the interval of topics, of all being 1, around which a row is looked up.
_TOPIC_WIDTH = 0.01
#: A transient row lives for between these shares of the trace.
_LIFETIME = (1 / 32, 1 / 2)
#: Rounds of moving rows out of bags that hold them already.
_ROUNDS_OF_PARTING = 4


class _Placing(NamedTuple):
    """The knobs that say where the accesses of a row go."""

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
    """Generate a trace whose share of accesses by reuse factor is that of Meta's lookups.

    The reuse factor of a row is how often the whole trace accesses it. The number of accesses of
    every row is drawn from the histogram first, so that the histogram holds by construction, and
    the accesses are then laid into the bags so that sessions, topics and drift show.

    **Scale.** The bins are not rescaled: a trace of fewer lookups is made like Meta's with a part
    of the rows kept and every access of those, which leaves the histogram and the ratio of rows to
    lookups (1 to 7) as they are. What cannot be then is a row accessed more often than there are
    samples, or so often that its bin's share of the lookups does not make one row; the shares of
    such bins go to the next lower bin that can exist, see `scaled_reuse_shares`. With the default
    knobs all bins exist.

    **Sessions.** A sample belongs to a session, and sessions interleave in time. A row accessed
    again is so in the same session, in one of its next samples, with probability `session_reuse`.
    Each session has a topic, and so has each row: a row's visits to sessions go to sessions close
    to its topic with probability `topic_affinity`, so that rows of all tables recur together.

    **Drift.** A share `drift` of the rows is transient, accessed only during a part of the trace,
    between 1/32 and 1/2 of it. Rows found in more than 1/32 of the samples belong to no session,
    topic or time, and nothing narrows a row so far that its samples could not hold it.

    Parameters
    ----------
    num_tables, num_samples : int
        At least 1.
    mean_pooling_factor : float or (T,) sequence of float
        Mean lookups of a bag, above 0. One number is the mean over the tables, which then range
        over a factor of 16. Up to 1 a bag has one lookup or none, above 1 it has one or more,
        geometrically distributed.
    num_embeddings : int or (T,) sequence of int, optional
        Rows, of all tables or of each. Without it half of each table's rows are never looked up.
    reuse_shares : (16,) sequence of float
        Share of the accesses for each bin of `REUSE_BIN_EDGES`; scaled to add up to 1.
    session_length : float
        Mean samples of a session, at least 1.
    session_reuse, topic_affinity, drift : float
        From 0, which turns each off, to 1; `session_reuse` below 1.
    seed : int
        The same arguments and seed give the same trace.
    name : str
        The name of the trace.

    Returns
    -------
    Trace
        Its rows are numbered in random order, as hashing would. A row may occur twice in a bag.

    Raises
    ------
    ValueError
        For an argument out of its range, or tables too small for the rows that the lookups need.
    """
    placing = _Placing(session_length, session_reuse, topic_affinity, drift)
    _check_knobs(num_tables, num_samples, placing)
    rng = np.random.default_rng(seed)
    factors = _pooling_factors(mean_pooling_factor, num_tables, rng)
    lengths = _draw_lengths(factors, num_samples, rng)
    counts = draw_counts(int(lengths.sum()), most_bags(lengths), checked_shares(reuse_shares), rng)
    room = None if num_embeddings is None else np.asarray(num_embeddings, dtype=np.int64)
    tables = share_out(counts, lengths, room, rng)
    sizes = table_sizes(tables, room)

    sessions = _Sessions.draw(num_samples, session_length, rng)
    indices = []
    for table, size, bag_lengths in zip(tables, sizes, lengths, strict=True):
        placed = _place(table, bag_lengths, sessions, placing, rng)
        indices.append(rng.permutation(size)[placed])
    return Trace.from_lengths(
        np.concatenate(indices), lengths, [f"t{t}" for t in range(num_tables)], sizes, name
    )


def _check_knobs(num_tables: int, num_samples: int, placing: _Placing) -> None:
    for what, value in (
        ("num_tables", num_tables),
        ("num_samples", num_samples),
        ("session_length", placing.session_length),
    ):
        if not 1 <= value < np.inf:
            raise ValueError(f"{what} is {value}, expected at least 1")
    if not 0 <= placing.session_reuse < 1:
        raise ValueError(
            f"session_reuse is {placing.session_reuse}, expected at least 0 and below 1"
        )
    for what, share in (("topic_affinity", placing.topic_affinity), ("drift", placing.drift)):
        if not 0 <= share <= 1:
            raise ValueError(f"{what} is {share}, expected 0 to 1")


def _pooling_factors(
    mean_pooling_factor: float | Sequence[float], num_tables: int, rng: Generator
) -> NDArray[np.float64]:
    factors = np.asarray(mean_pooling_factor, dtype=np.float64)
    if factors.ndim == 0:
        factors = factors * rng.permutation(_spread(num_tables))
    if factors.shape != (num_tables,):
        raise ValueError(f"mean_pooling_factor has {factors.size} values, expected {num_tables}")
    if not (factors > 0).all() or not np.isfinite(factors).all():
        raise ValueError(f"mean_pooling_factor is {mean_pooling_factor}, expected above 0")
    return factors


def _spread(num_tables: int) -> NDArray[np.float64]:
    """Multipliers over a factor of 16, of mean 1."""
    multipliers = 2 ** np.linspace(-2, 2, num_tables)
    return np.asarray(multipliers / multipliers.mean())


def _draw_lengths(
    factors: NDArray[np.float64], num_samples: int, rng: Generator
) -> NDArray[np.int32]:
    """Draw the lengths of the bags, (T, B)."""
    lengths = np.empty((len(factors), num_samples), dtype=np.int32)
    for table, factor in enumerate(factors):
        if factor <= 1:
            lengths[table] = rng.random(num_samples) < factor
        else:
            lengths[table] = rng.geometric(1 / factor, num_samples)
    return lengths


class _Sessions(NamedTuple):
    """The samples, ordered by epoch and, of each epoch, by topic; each session's in time order."""

    samples: NDArray[np.int64]  # (B,)
    session: NDArray[np.int64]  # (B,) of each of those
    epoch: NDArray[np.int64]  # (B,)
    length: NDArray[np.int64]  # (S,) samples of each session

    @classmethod
    def draw(cls, num_samples: int, session_length: float, rng: Generator) -> _Sessions:
        first = rng.random(num_samples) < 1 / session_length
        first[0] = True
        session = np.cumsum(first) - 1
        num_sessions = int(session[-1]) + 1
        begin = np.sort(rng.random(num_sessions)) * num_samples
        elapsed = np.cumsum(rng.exponential(_CONCURRENT_SESSIONS, num_samples))
        time = begin[session] + elapsed - elapsed[first][session]
        sample = np.empty(num_samples, dtype=np.int64)
        sample[np.argsort(time)] = np.arange(num_samples)

        # Few sessions cannot be told apart well by both: time gets half the say of topics.
        num_epochs = round(np.sqrt(num_sessions / 2)) or 1
        epoch = np.arange(num_sessions) * num_epochs // num_sessions
        by_topic = np.lexsort((rng.random(num_sessions), epoch))
        place = np.empty(num_sessions, dtype=np.int64)
        place[by_topic] = np.arange(num_sessions)
        order = np.argsort(place[session], kind="stable")
        return cls(
            sample[order],
            place[session][order],
            epoch[session][order],
            np.bincount(session)[by_topic],
        )


class _Visits(NamedTuple):
    """Runs of accesses of one row, each for one session."""

    row: NDArray[np.int64]
    size: NDArray[np.int64]
    time: NDArray[np.float64]  # of the trace, from 0 to 1
    topic: NDArray[np.float64]  # from 0 to 1


def _place(
    counts: NDArray[np.int64],
    lengths: NDArray[np.int32],
    sessions: _Sessions,
    placing: _Placing,
    rng: Generator,
) -> NDArray[np.int64]:
    """Place the accesses of a table's rows into its bags: the row of each lookup, bag by bag."""
    free = lengths.copy()
    counts = counts.copy()
    samples, rows = [], []
    for row in np.flatnonzero(counts > UBIQUITOUS * len(lengths)).tolist():
        bags = _draw_bags(free, int(counts[row]), rng)
        free[bags] -= 1
        counts[row] -= len(bags)
        samples.append(bags)
        rows.append(np.full(len(bags), row))
    visits = _draw_visits(counts, len(sessions.length), placing, rng)
    seats = np.repeat(sessions.samples, free[sessions.samples])
    samples.append(seats)
    rows.append(_part_twins(_seat(visits, free, sessions, rng), seats))
    sample_of_lookup = np.concatenate(samples)
    order = np.lexsort((rng.random(len(sample_of_lookup)), sample_of_lookup))
    return np.concatenate(rows)[order]


def _draw_bags(free: NDArray[np.int32], count: int, rng: Generator) -> NDArray[np.int64]:
    """Draw different bags with free places, by how many they have; fewer where there are fewer."""
    bags = np.flatnonzero(free)
    if count >= len(bags):
        return bags
    arrival = rng.exponential(size=len(bags)) / free[bags]
    return bags[np.argpartition(arrival, count)[:count]]


def _draw_visits(
    counts: NDArray[np.int64], num_sessions: int, placing: _Placing, rng: Generator
) -> _Visits:
    num_rows, lookups = len(counts), int(counts.sum())
    row_of_lookup = np.repeat(np.arange(num_rows), counts)
    nth = np.arange(lookups) - np.repeat(np.cumsum(counts) - counts, counts)
    # No longer than sessions are, or a bag would have to hold the row twice.
    begins = rng.random(lookups) >= placing.session_reuse
    begins |= nth % max(round(placing.session_length), 1) == 0
    first = np.flatnonzero(begins)
    row = row_of_lookup[first]
    size = np.diff(first, append=lookups)

    # The share of the sessions that a row needs for its visits, with one other for each.
    needed = np.minimum(2 * np.bincount(row, minlength=num_rows) / num_sessions, 1)
    shortest, longest = _LIFETIME
    lifetime = shortest * (longest / shortest) ** rng.random(num_rows)
    lifetime[rng.random(num_rows) >= placing.drift] = 1
    lifetime = np.maximum(lifetime, needed)
    birth = rng.random(num_rows) * (1 - lifetime)
    time = birth[row] + lifetime[row] * rng.random(len(row))

    width = np.clip(needed / lifetime, _TOPIC_WIDTH, 1)
    centre = rng.random(num_rows)
    topic = (centre[row] + width[row] * (rng.random(len(row)) - 0.5)) % 1
    stray = rng.random(len(row)) >= placing.topic_affinity
    topic[stray] = rng.random(np.count_nonzero(stray))
    return _Visits(row, size, time, topic)


def _seat(
    visits: _Visits, free: NDArray[np.int32], sessions: _Sessions, rng: Generator
) -> NDArray[np.int64]:
    """Seat the visits on the free places of the bags, in the order of `sessions`: a row for each.

    Both are put in one order of epoch and topic and matched rank by rank: a visit comes as close
    to its time and topic as the room allows, and every place is filled.
    """
    places = free[sessions.samples]
    session = np.repeat(sessions.session, places)
    epoch_ends = np.cumsum(np.bincount(sessions.epoch, weights=places))
    by_time = np.argsort(visits.time)
    epoch = np.searchsorted(epoch_ends, np.cumsum(visits.size[by_time]) - 1, side="right")
    order = by_time[np.lexsort((visits.topic[by_time], epoch))]

    sizes = visits.size[order]
    visit = np.repeat(np.arange(len(order)), sizes)
    nth = np.arange(len(visit)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Within a session a visit begins anywhere and goes on sample by sample.
    spare = np.maximum(sessions.length[session] - sizes[visit], 0)
    step = rng.random(len(order))[visit] * spare + nth
    return visits.row[order][visit[np.lexsort((step, session))]]


def _part_twins(rows: NDArray[np.int64], seats: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move rows that a bag holds already to the next bags of such; a few are left in the end."""
    rows = rows.copy()
    for _ in range(_ROUNDS_OF_PARTING):
        order = np.lexsort((rows, seats))
        same = (np.diff(rows[order]) == 0) & (np.diff(seats[order]) == 0)
        twins = np.sort(order[1:][same])
        rows[twins] = np.roll(rows[twins], 1)
    return rows
