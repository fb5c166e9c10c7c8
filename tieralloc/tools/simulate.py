"""Simulation of the store's own policies on a trace, without bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tieralloc._bindings import belady, eviction_policy_names, rows_per_page
from tieralloc.order import pages_of_rows
from tieralloc.policy.planned import PREFETCH_COST
from tieralloc.policy.simulator import run_simulator
from tieralloc.trace.stream import Stream, count_distinct, fast_rows, first_counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tieralloc.policy.trained import TrainedPolicy
    from tieralloc.trace import Trace

__all__ = ["simulate"]

#: Belady's optimal replacement, which needs future accesses; no store can run it.
OPT = "opt"


def policy_names() -> list[str]:
    """Return the names of the policies of `simulate`, in the order of help texts."""
    return [*eviction_policy_names(), OPT]


def simulate(
    trace: Trace,
    policies: Sequence[str | TrainedPolicy],
    fast_fractions: Sequence[float],
    count_from: float = 0.5,
    *,
    batch_size: int | None = None,
    embedding_dim: int = 64,
    dtype: str = "float32",
    pages: NDArray[np.uint32] | None = None,
    progress: Callable[[int], object] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Count the hits and misses of each policy on a trace at each capacity.

    Parameters
    ----------
    trace : Trace
        The trace to simulate.
    policies : sequence of str or TrainedPolicy
        Names from `policy_names`, or learned policies.
    fast_fractions : sequence of float
        Capacities as fractions of the distinct rows of the whole trace, rounded down.
    count_from : float
        Share of the accesses that warms the tier and is not counted, in [0, 1).
    batch_size : int, optional
        Samples per call, as in a store, which reads each page once per call; None: one access per
        call. `OPT` decides access by access, but reads its pages once per call too.
    embedding_dim, dtype : int, str
        As of `TieredStore.create_table`; they set the number of rows in a page of a file.
    pages : (rows,) uint32, optional
        Page of each row, numbered across the tables, as `tieralloc.order.pages_of_rows` returns
        them for a learned order. By default the rows of a table lie in the order of their ids.
    progress : callable, optional
        Called with the number of newly simulated accesses; the sum is ``len(policies) *
        len(fast_fractions)`` times the accesses of the trace.
    seed : int
        Random seed of the policies.

    Returns
    -------
    list of dict
        A record for each policy and capacity: policy, trace, fast_fraction, fast_rows, lookups,
        hits, on_demand_fetches, miss_ratio, prefetches_issued, prefetches_useful,
        prefetches_late, evictions, calls, device_reads (pages read on demand or by prefetches),
        on_demand_device_reads, prefetch_device_reads, device_reads_per_request (a request is a
        call); then batch_size, embedding_dim, dtype and rows_per_page.

    Raises
    ------
    ValueError
        If a policy is unknown or was trained for other tables, a fraction is out of range or less
        than one row, the trace is empty, `batch_size` or `embedding_dim` is below 1, or `pages`
        has not one page per row.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    if embedding_dim < 1:
        raise ValueError(f"embedding_dim: expected at least 1, got {embedding_dim}")
    check_policies([policy for policy in policies if isinstance(policy, str)], policy_names())
    for policy in policies:
        if not isinstance(policy, str):
            policy.check(trace)
    stream = Stream.of(trace)
    accesses = stream.accesses
    counted = first_counted(len(accesses), count_from)
    if len(accesses) == 0:
        raise ValueError(f"trace {trace.name!r}: no accesses; expected at least 1")
    distinct = count_distinct(accesses, stream.rows)
    capacities = [fast_rows(fraction, distinct) for fraction in fast_fractions]
    report = progress if progress is not None else lambda _: None

    in_page = rows_per_page(embedding_dim, dtype)
    calls: dict[str, Any] = {
        "samples_per_call": batch_size or 0,
        "pages": pages_of_rows(trace, in_page) if pages is None else pages,
    }
    layout = {
        **{"batch_size": batch_size, "embedding_dim": embedding_dim, "dtype": dtype},
        "rows_per_page": in_page,
    }
    records = []
    for policy in policies:
        name = policy if isinstance(policy, str) else policy.name
        for fraction, capacity in zip(fast_fractions, capacities, strict=True):
            if policy == OPT:
                counts = belady(
                    accesses,
                    stream.rows,
                    capacity,
                    count_from=counted,
                    sample_lengths=stream.lengths,
                    **calls,
                )
                report(len(accesses))
            else:
                counts = run_simulator(
                    stream,
                    policy if isinstance(policy, str) else policy.model_for(capacity, accesses),
                    capacity,
                    count_from=counted,
                    prefetch_cost=PREFETCH_COST,
                    seed=seed,
                    report=report,
                    **calls,
                ).counts
            counted_record = count_record(name, trace.name, fraction, capacity, counts)
            records.append({**counted_record, **layout})
    return records


def check_policies(policies: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError for a policy that is not in `known`."""
    for policy in policies:
        if policy not in known:
            raise ValueError(f"policy: expected one of {', '.join(known)}, got {policy!r}")


def count_record(
    policy: str, trace: str, fast_fraction: float, capacity: int, counts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON record of a policy at a capacity.

    Parameters
    ----------
    policy, trace : str
        Names of the policy and the trace.
    fast_fraction, capacity : float, int
        The fast tier's share of the trace's distinct rows, and its rows.
    counts : mapping
        lookups, hits, on_demand_fetches, evictions, and the prefetch counts of a policy that
        prefetches; calls and on_demand_device_reads, by default a call per lookup, which reads its
        row alone.
    """
    lookups = counts["lookups"]
    calls = counts.get("calls", lookups)
    on_demand = counts.get("on_demand_device_reads", counts["on_demand_fetches"])
    prefetch = counts.get("prefetch_device_reads", 0)
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
        "calls": calls,
        "device_reads": on_demand + prefetch,
        "on_demand_device_reads": on_demand,
        "prefetch_device_reads": prefetch,
        "device_reads_per_request": (on_demand + prefetch) / calls if calls else 0.0,
    }
