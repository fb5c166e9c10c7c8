"""recmg measured as its rivals are: with fetches that take time, and by its memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._advising import RIVALS
from tieralloc._core import ScoredSimulator
from tieralloc._torch import one_thread
from tieralloc.policies.recmg.policy import CANDIDATES, VICTIMS

if TYPE_CHECKING:
    from tieralloc.policies.recmg.policy import RecmgPolicy
    from tieralloc.trace import Trace


def count(
    policy: RecmgPolicy,
    trace: Trace,
    fast_rows: int,
    *,
    count_from: int,
    lag: int,
    report: Callable[[int], object],
) -> Mapping[str, Any]:
    """Replay a trace under a policy; rows fetched ahead are in flight for `lag` accesses."""
    if lag == 0:
        return policy.count(trace, fast_rows, count_from=count_from, report=report)
    return _count_lagging(policy, trace, fast_rows, count_from, lag, report)


@one_thread()
def _count_lagging(
    policy: RecmgPolicy,
    trace: Trace,
    fast_rows: int,
    count_from: int,
    lag: int,
    report: Callable[[int], object],
) -> Mapping[str, Any]:
    kept = policy.memory(fast_rows)
    prefetcher = policy.prefetcher(kept)
    simulator = ScoredSimulator(
        policy.history(kept),
        fast_rows,
        policy.models.scorer(fast_rows),
        candidates=CANDIDATES,
        victims=VICTIMS,
        count_from=count_from,
        prefetcher=prefetcher,
        score_ahead=None if prefetcher is None else policy.models.ahead_scorer(),
        lag=lag,
        rivals=RIVALS,
    )
    accesses = trace.accesses()
    simulator.run(accesses, trace.lengths.sum(axis=0, dtype=np.uint32))
    report(len(accesses))
    return simulator.counts


def memory(policy: RecmgPolicy, fast_rows: int) -> int:
    """Bytes that a policy takes, for a fast tier of so many rows: what it knows, its models."""
    kept = policy.memory(fast_rows)
    prefetcher = policy.prefetcher(kept)
    names = ["caching", "prefetch"] if prefetcher is not None else ["caching"]
    models = sum(len(policy.directory.models[name]) for name in names)
    ahead = 0 if prefetcher is None else prefetcher.nbytes
    return models + policy.history(kept).nbytes + ahead
