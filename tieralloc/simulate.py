"""Replays a trace through the store's own eviction code with no bytes behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tieralloc._core import Simulator, belady, eviction_policy_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.policy_directory import PolicyDirectory
    from tieralloc.trace import Trace

#: Belady's optimal replacement, which needs the future and no store can run.
OPT = "opt"

_CHUNK = 1 << 20


class LearnedPolicy(Protocol):
    """A policy that was trained, as `tieralloc.policies.registry.with_learned` loads it."""

    @property
    def name(self) -> str:
        """What records call it."""

    @property
    def directory(self) -> PolicyDirectory:
        """Where it comes from."""

    def check(self, trace: Trace) -> None:
        """Raise ValueError for a trace that the policy does not fit."""

    def count(
        self,
        trace: Trace,
        capacity: int,
        *,
        count_from: int,
        report: Callable[[int], object],
    ) -> Mapping[str, int]:
        """Replay a trace at a capacity; return what `count_record` takes.

        Accesses before number `count_from` are not counted; `report` is called with the number of
        accesses just replayed.
        """


def policy_names() -> list[str]:
    """Names of the policies that `simulate` knows, in the order they are listed to users."""
    return [*eviction_policy_names(), OPT]


def fast_rows(fast_fraction: float, distinct_rows: int) -> int:
    """Rows of a fast tier that holds a fraction of the distinct rows of a trace, rounded down.

    Raises
    ------
    ValueError
        Where the fraction is not in (0, 1], or less than one row.
    """
    if not 0 < fast_fraction <= 1:
        raise ValueError(f"fast_fraction is {fast_fraction}, expected above 0 and at most 1")
    # A hair more, for what binary lacks: 0.29 of 100 rows would be 28.
    rows = math.floor(fast_fraction * distinct_rows * (1 + 1e-12))
    if rows < 1:
        raise ValueError(
            f"fast_fraction {fast_fraction} of {distinct_rows} distinct rows is less than one row"
        )
    return rows


def count_distinct(accesses: NDArray[np.uint64], rows: int) -> int:
    """Count the distinct rows among accesses to rows 0 to ``rows - 1``."""
    seen = np.zeros(rows, dtype=bool)
    seen[accesses] = True
    return int(np.count_nonzero(seen))


def simulate(
    trace: Trace,
    policies: Sequence[str | LearnedPolicy],
    fast_fractions: Sequence[float],
    count_from: float = 0.5,
    *,
    progress: Callable[[int], object] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Count what each policy would do with a trace at each capacity, one access at a time.

    Parameters
    ----------
    trace : Trace
        What to replay.
    policies : sequence of str or LearnedPolicy
        Of `policy_names`, or learned.
    fast_fractions : sequence of float
        Capacities as fractions of the distinct rows of the whole trace, rounded down.
    count_from : float
        The share of the accesses that warms the tier and is not counted, in [0, 1).
    progress : callable, optional
        Called with the number of accesses just replayed; they add up to ``len(policies) *
        len(fast_fractions)`` times those of the trace.
    seed : int
        For policies that draw at random.

    Returns
    -------
    list of dict
        A record for each policy and capacity: policy, trace, fast_fraction, fast_rows, lookups,
        hits, on_demand_fetches, miss_ratio, prefetches_issued, prefetches_useful,
        prefetches_late, evictions.

    Raises
    ------
    ValueError
        For an unknown policy, one that was trained for other tables, a fraction out of its range
        or less than one row, an empty trace.
    """
    check_policies([policy for policy in policies if isinstance(policy, str)], policy_names())
    for policy in policies:
        if not isinstance(policy, str):
            policy.check(trace)
    accesses = trace.accesses()
    counted = first_counted(len(accesses), count_from)
    if len(accesses) == 0:
        raise ValueError(f"trace {trace.name!r} has no accesses, expected one or more")
    rows = int(trace.num_embeddings.sum())
    distinct = count_distinct(accesses, rows)
    capacities = [fast_rows(fraction, distinct) for fraction in fast_fractions]
    report = progress if progress is not None else lambda _: None

    records = []
    for policy in policies:
        for fraction, capacity in zip(fast_fractions, capacities, strict=True):
            counts: Mapping[str, int]
            if isinstance(policy, str):
                name = policy
                counts = _replay(policy, accesses, rows, capacity, counted, seed, report)
            else:
                name = policy.name
                counts = policy.count(trace, capacity, count_from=counted, report=report)
            records.append(count_record(name, trace.name, fraction, capacity, counts))
    return records


def first_counted(num_accesses: int, count_from: float) -> int:
    """Return the number of the access that counts first.

    Raises
    ------
    ValueError
        Where `count_from` is not in [0, 1).
    """
    if not 0 <= count_from < 1:
        raise ValueError(f"count_from is {count_from}, expected at least 0 and below 1")
    return math.floor(count_from * num_accesses)


def check_policies(policies: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError, naming those known, for a policy that is not."""
    for policy in policies:
        if policy not in known:
            raise ValueError(f"policy {policy!r} is unknown; known are {', '.join(known)}")


def _replay(
    policy: str,
    accesses: NDArray[np.uint64],
    rows: int,
    capacity: int,
    count_from: int,
    seed: int,
    report: Callable[[int], object],
) -> dict[str, int]:
    if policy == OPT:
        counts = belady(accesses, rows, capacity, count_from=count_from)
        report(len(accesses))
        return counts
    simulator = Simulator(policy, capacity, rows, count_from=count_from, seed=seed)
    for start in range(0, len(accesses), _CHUNK):
        chunk = accesses[start : start + _CHUNK]
        simulator.run(chunk)
        report(len(chunk))
    return simulator.counts


def count_record(
    policy: str, trace: str, fast_fraction: float, capacity: int, counts: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the record of a policy at a capacity, as it goes into JSON, from what was counted.

    Parameters
    ----------
    policy, trace : str
        Names.
    fast_fraction, capacity : float, int
        The fast tier's share of the trace's distinct rows, and its rows.
    counts : mapping
        lookups, hits, on_demand_fetches, evictions, and the prefetches if there could be any.
    """
    lookups = counts["lookups"]
    return {
        "policy": policy,
        "trace": trace,
        "fast_fraction": fast_fraction,
        "fast_rows": capacity,
        "lookups": lookups,
        "hits": counts["hits"],
        "on_demand_fetches": counts["on_demand_fetches"],
        "miss_ratio": counts["on_demand_fetches"] / lookups if lookups else 0.0,
        "prefetches_issued": counts.get("prefetches_issued", 0),
        "prefetches_useful": counts.get("prefetches_useful", 0),
        "prefetches_late": counts.get("prefetches_late", 0),
        "evictions": counts["evictions"],
    }
