"""A plan of shards: which table or row range goes to which rank, by the reads of its rows.

    reads of a row = its accesses that a fast tier of all ranks' DRAM would miss
    put tables that lie in DRAM as a whole on all ranks, if replication is asked for
    place whole tables, the one with the most reads first, on the rank with the most reads left
    cut the other tables so that each rank gets its share of the reads that are left
    while a rank has more than its share: cut the largest whole table, too
    simulate the fast tier of each rank on the accesses to its shards
    while the simulated reads differ: correct the reads of the rows by them, and place again

A row is missed if more accesses lie between two of its own than the longest window whose mean
number of distinct rows fits into the fast tier (Denning's working set). The reads and miss ratios
of the plan are simulated: points of the miss ratio curve of each rank's accesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tieralloc._bindings import rows_per_page
from tieralloc._common.numbers import format_size, parse_size
from tieralloc.distributed._shards import Shard, is_replicated, parameter_sharding
from tieralloc.tools import report
from tieralloc.tools.capacity import rows_within
from tieralloc.tools.plan.curve import Curve, Workload
from tieralloc.trace import Trace
from tieralloc.trace.stream import first_counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RankLimits", "ShardPlan", "plan_shards"]

_PAGE = 4096
_MAX_EXCESS = 0.02  # of a rank's share of the reads, before a table is cut
_MAX_ERROR = 0.005
_ROUNDS = 4
_RESIDENT_SHARE = 64  # a store keeps tables of 1/64 of fast_bytes in DRAM, up to 1/4 in total
_COLD = 0.02  # of the reads, spread over all rows: cold rows are shared out, too


@dataclass(frozen=True)
class RankLimits:
    """The machine of a rank.

    Parameters
    ----------
    fast_bytes : int or str
        DRAM of the rank's store.
    disk_bytes : int or str, optional
        Limit of its file.
    reads_per_second : float, optional
        Device reads that its disk serves. Ranks get reads in proportion; without it all are equal.
    """

    fast_bytes: int | str
    disk_bytes: int | str | None = None
    reads_per_second: float | None = None


class _Rank(NamedTuple):
    """A rank in a plan."""

    rank: int
    shards: dict[str, tuple[int, int]]
    rows: int
    disk_bytes: int
    fast_rows: int
    lookups_per_sample: float
    miss_ratio: float
    reads_per_sample: float


@dataclass(frozen=True)
class ShardPlan:
    """Shards of tables on ranks, and what each rank holds and reads.

    Attributes
    ----------
    sharding : dict of str to torchrec.ParameterSharding
        The plan by table: the argument of the sharded modules.
    ranks : list of dict
        Of each rank: rank, shards (first and last row by table), rows, disk_bytes, fast_rows,
        lookups_per_sample, miss_ratio, reads_per_sample.
    balance : float
        Reads of the slowest rank ÷ the mean, each in proportion to its `reads_per_second`.
    """

    shards: dict[str, list[Shard]]
    embedding_dim: int
    ranks: list[dict[str, Any]]
    balance: float

    @property
    def sharding(self) -> dict[str, Any]:
        """The plan as torchrec's ParameterSharding of each table."""
        return {
            name: parameter_sharding(shards, self.embedding_dim)
            for name, shards in self.shards.items()
        }

    def __str__(self) -> str:
        columns = {
            "rank": lambda r: str(r["rank"]),
            "rows": lambda r: f"{r['rows']:,}",
            "disk": lambda r: format_size(r["disk_bytes"]),
            "fast rows": lambda r: f"{r['fast_rows']:,}",
            "lookups/sample": lambda r: f"{r['lookups_per_sample']:.3f}",
            "miss ratio": lambda r: f"{r['miss_ratio']:.4f}",
            "reads/sample": lambda r: f"{r['reads_per_sample']:.4f}",
        }
        lines = [report.table(self.ranks, columns), ""]
        for rank in self.ranks:
            parts = ", ".join(
                f"{name} {first:,} to {last:,}" for name, (first, last) in rank["shards"].items()
            )
            lines.append(f"rank {rank['rank']}: {parts or 'no rows'}")
        lines.append(f"reads of the slowest rank: {self.balance:.3f} of the mean")
        return "\n".join(lines)


def plan_shards(
    trace: Trace,
    ranks: Sequence[RankLimits],
    *,
    embedding_dim: int = 64,
    dtype: str = "float32",
    policy: str = "s3fifo",
    batch_size: int = 256,
    rate: float | None = None,
    replicate: bool = False,
    count_from: float = 0.5,
    seed: int = 0,
) -> ShardPlan:
    """Plan which table or row range goes to which rank: also ``ta.distributed.plan``.

    Balances the device reads, by the misses that a trace causes, not the bytes.

    Parameters
    ----------
    trace : Trace
        Accesses of all ranks' samples.
    ranks : sequence of RankLimits
        The machine of each rank.
    embedding_dim, dtype : int, str
        Of the tables.
    policy : str
        Eviction policy of the stores.
    batch_size : int
        Samples of all ranks per exchange.
    rate : float, optional
        Samples per second of all ranks, to check `RankLimits.reads_per_second`.
    replicate : bool
        Whether each rank has all rows of the tables that lie in its DRAM as a whole, those of at
        most 1/64 of `fast_bytes`: their indices and vectors do not travel.
    count_from : float
        Share of the accesses that warms the fast tiers, in [0, 1).
    seed : int
        Random seed.

    Returns
    -------
    ShardPlan
        Its text has a line per rank.

    Raises
    ------
    ValueError
        For no ranks, an empty trace, or a rank whose disk or reads per second do not suffice.

    Examples
    --------
    >>> plan = ta.distributed.plan(trace, [ta.distributed.RankLimits("1MiB")] * 3)
    >>> print(plan)
    >>> plan.sharding["item"].ranks
    [0, 1, 2]
    """
    if not ranks:
        raise ValueError("ranks: expected at least one, got none")
    if trace.num_lookups == 0:
        raise ValueError(f"trace {trace.name!r}: no accesses; expected at least 1")
    planner = _Planner(
        trace, ranks, embedding_dim, dtype, policy, batch_size, replicate, count_from, seed
    )
    best = planner.best()
    planner.check(best, rate)
    return best


@dataclass
class _Planner:
    """Places tables and simulates ranks."""

    trace: Trace
    limits: Sequence[RankLimits]
    embedding_dim: int
    dtype: str
    policy: str
    batch_size: int
    replicate: bool
    count_from: float
    seed: int

    def best(self) -> ShardPlan:
        """Return the plan of the rounds with the best balance."""
        sizes = self.trace.num_embeddings.tolist()
        capacity = sum(self._fast_rows(limits, sizes) for limits in self.limits)
        reads = self._row_reads(capacity)
        plans = []
        replicated = self._replicated()
        for number in replicated:
            reads[number] *= 0
        for _ in range(_ROUNDS):
            shards = _place(reads, self._targets())
            for number in replicated:
                shards[number] = [Shard(rank, 0, sizes[number]) for rank in range(len(self.limits))]
            plans.append(self._simulated(shards))
            simulated = np.array([rank["reads_per_sample"] for rank in plans[-1].ranks])
            expected = _sums(reads, shards, len(self.limits))
            factors = np.where(expected > 0, simulated / np.maximum(expected, 1e-12), 0)
            if plans[-1].balance < 1 + _MAX_EXCESS or not factors.any():
                break
            reads = _corrected(reads, shards, factors / factors[factors > 0].mean())
        return min(plans, key=lambda plan: plan.balance)

    def _targets(self) -> NDArray[np.float64]:
        """Return each rank's share of the reads."""
        speeds = [limits.reads_per_second for limits in self.limits]
        known = [speed for speed in speeds if speed is not None]
        if known and len(known) < len(speeds):
            raise ValueError(f"ranks: expected reads_per_second for all or none, got {speeds}")
        weights = np.array(known or [1.0] * len(speeds))
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def _replicated(self) -> list[int]:
        """Return the tables to replicate, all but the largest one at most."""
        if not self.replicate or len(self.limits) == 1:
            return []
        rows = self.trace.num_embeddings.tolist()
        row_bytes = _PAGE // rows_per_page(self.embedding_dim, self.dtype)
        least = min(parse_size(limits.fast_bytes, "fast_bytes") for limits in self.limits)
        small, total = [], 0
        for number, count in enumerate(rows):
            total_with = total + count * row_bytes
            if count * row_bytes * _RESIDENT_SHARE <= least and 4 * total_with <= least:
                small.append(number)
                total = total_with
        return small if len(small) < len(rows) else [n for n in small if n != int(np.argmax(rows))]

    def _fast_rows(self, limits: RankLimits, rows: Sequence[int]) -> int:
        if not rows:
            return 0
        found = rows_within(limits.fast_bytes, rows, self.embedding_dim, [self.policy], self.dtype)
        return min(found, sum(rows))

    def _row_reads(self, capacity: int) -> list[NDArray[np.float64]]:
        """Return the reads of each row of each table, a little for rows without accesses."""
        accesses = self.trace.accesses().astype(np.int64)
        first = first_counted(len(accesses), self.count_from)
        missed = accesses_missed(accesses, capacity)
        missed[:first] = False
        starts = [*self.trace.first_rows.tolist(), int(self.trace.num_embeddings.sum())]
        reads = np.bincount(accesses[missed], minlength=starts[-1]).astype(np.float64)
        reads += _COLD * max(1.0, float(reads.sum())) / len(reads)
        return np.split(reads, starts[1:-1])

    def _simulated(self, shards: Sequence[Sequence[Shard]]) -> ShardPlan:
        names = self.trace.table_names
        found = [self._rank(rank, shards) for rank in range(len(self.limits))]
        loads = np.array([rank.reads_per_sample for rank in found]) / self._targets()
        mean = float(loads @ self._targets())
        return ShardPlan(
            {name: list(parts) for name, parts in zip(names, shards, strict=True)},
            self.embedding_dim,
            [rank._asdict() for rank in found],
            float(loads.max()) / mean if mean else 1.0,
        )

    def _rank(self, rank: int, shards: Sequence[Sequence[Shard]]) -> _Rank:
        own = {
            number: (shard.first, shard.last)
            for number, parts in enumerate(shards)
            for shard in parts
            if shard.rank == rank
        }
        sizes = [last - first for first, last in own.values()]
        fast = self._fast_rows(self.limits[rank], sizes)
        names = [self.trace.table_names[number] for number in own]
        misses = {n: rows for n, rows in own.items() if not is_replicated(shards[n])}
        resident = sum(sizes) - sum(last - first for first, last in misses.values())
        miss_ratio, lookups, reads = self._reads(misses, fast - resident)
        pages = -(-np.array(sizes, dtype=np.int64) // rows_per_page(self.embedding_dim, self.dtype))
        return _Rank(
            rank,
            dict(zip(names, own.values(), strict=True)),
            sum(sizes),
            int(pages.sum()) * _PAGE,
            fast,
            lookups,
            miss_ratio,
            reads,
        )

    def _reads(self, own: dict[int, tuple[int, int]], fast_rows: int) -> tuple[float, float, float]:
        """Return the miss ratio, lookups and device reads per sample of a rank."""
        part = accesses_of_shards(self.trace, own) if own else None
        if part is None or part.num_lookups == 0:
            return 0.0, 0.0, 0.0
        workload = Workload.of(
            part, self.batch_size, self.embedding_dim, self.dtype, self.count_from
        )
        curve = Curve(workload, self.policy, _MAX_ERROR, self.seed)
        (point,) = curve.points([max(1, fast_rows)])
        samples = part.num_samples - workload.first_sample
        return (
            point.miss_ratio,
            workload.counted_accesses / samples,
            point.reads_per_call * workload.counted_calls / samples,
        )

    def check(self, plan: ShardPlan, rate: float | None) -> None:
        """Raise ValueError for a rank whose disk or reads per second do not suffice."""
        for rank, limits in zip(plan.ranks, self.limits, strict=True):
            disk = limits.disk_bytes
            if disk is not None and rank["disk_bytes"] > parse_size(disk, "disk_bytes"):
                raise ValueError(
                    f"ranks: rank {rank['rank']} holds {format_size(rank['disk_bytes'])}; expected "
                    f"disk_bytes of {disk} at most"
                )
            reads, speed = (rate or 0.0) * rank["reads_per_sample"], limits.reads_per_second
            if speed is not None and reads > speed:
                raise ValueError(
                    f"ranks: rank {rank['rank']} reads {reads:,.0f} pages a second at this rate; "
                    f"expected reads_per_second of {speed:,.0f} at most"
                )


def accesses_missed(accesses: NDArray[np.int64], capacity: int) -> NDArray[np.bool_]:
    """Return which accesses a fast tier of so many rows misses, by the working set."""
    count = len(accesses)
    order = np.argsort(accesses, kind="stable")
    gaps = np.full(count, count, dtype=np.int64)
    again = accesses[order[1:]] == accesses[order[:-1]]
    gaps[order[1:][again]] = (order[1:] - order[:-1])[again]
    ordered = np.sort(gaps)
    below = np.concatenate(([0], np.cumsum(ordered[:-1])))
    distinct = (below + ordered * np.arange(count, 0, -1)) / count  # in a window of this length
    fits = int(np.searchsorted(distinct, capacity, side="right"))
    window = ordered[fits - 1] if fits else 0
    return np.asarray(gaps > min(int(window), count - 1))


def accesses_of_shards(trace: Trace, shards: dict[int, tuple[int, int]]) -> Trace:
    """Return the accesses to row ranges, by number of the table; rows count from their start."""
    samples = trace.num_samples
    indices, lengths, sizes = [], [], []
    for number, (first, last) in shards.items():
        offsets = trace.offsets[number * samples : (number + 1) * samples + 1]
        rows = trace.indices[offsets[0] : offsets[-1]]
        kept = (rows >= first) & (rows < last)
        before = np.concatenate(([0], np.cumsum(kept)))
        lengths.append(np.diff(before[offsets - offsets[0]]))
        indices.append(rows[kept] - first)
        sizes.append(last - first)
    names = [trace.table_names[number] for number in shards]
    return Trace.from_lengths(
        np.concatenate(indices), np.array(lengths, dtype=np.int32), names, sizes, trace.name
    )


def _place(reads: Sequence[NDArray[np.float64]], targets: NDArray[np.float64]) -> list[list[Shard]]:
    """Return the shards of each table: whole tables, and more cuts until the ranks are even."""
    sums = np.array([float(each.sum()) for each in reads])
    by_reads = np.argsort(-sums, kind="stable").tolist()
    cut: set[int] = set()
    while True:
        loads = np.zeros(len(targets))
        owners: dict[int, int] = {}
        for table in by_reads:
            if table not in cut:
                owners[table] = int(np.argmin((loads + sums[table]) / targets))
                loads[owners[table]] += sums[table]
        left = np.maximum(targets * sums.sum() - loads, 0)
        excess = (loads / (targets * sums.sum())).max() - 1
        whole = [t for t in by_reads if t not in cut and len(reads[t]) >= len(targets)]
        is_even = excess <= _MAX_EXCESS and (cut or np.ptp(loads / targets) <= _MAX_EXCESS)
        if is_even or not whole or len(targets) == 1:
            break
        cut.add(whole[0])
    shares = left / left.sum() if left.sum() else targets
    return [
        _cut(each, shares) if table in cut else [Shard(owners[table], 0, len(each))]
        for table, each in enumerate(reads)
    ]


def _cut(reads: NDArray[np.float64], shares: NDArray[np.float64]) -> list[Shard]:
    """Return ranges of rows with these shares of the reads."""
    total = np.cumsum(reads)
    ends = np.searchsorted(total, np.cumsum(shares) * total[-1], side="left")
    ends[-1] = len(reads)
    starts = np.concatenate(([0], ends[:-1]))
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    return [Shard(rank, a, b) for rank, (a, b) in enumerate(pairs) if a < b]


def _sums(
    reads: Sequence[NDArray[np.float64]], shards: Sequence[Sequence[Shard]], num_ranks: int
) -> NDArray[np.float64]:
    sums = np.zeros(num_ranks)
    for each, parts in zip(reads, shards, strict=True):
        for rank, first, last in parts:
            sums[rank] += each[first:last].sum()
    return sums


def _corrected(
    reads: Sequence[NDArray[np.float64]],
    shards: Sequence[Sequence[Shard]],
    factors: NDArray[np.float64],
) -> list[NDArray[np.float64]]:
    """Return the reads of rows, times the factor of their rank."""
    corrected = [each.copy() for each in reads]
    for each, parts in zip(corrected, shards, strict=True):
        for rank, first, last in parts:
            each[first:last] *= factors[rank]
    return corrected
