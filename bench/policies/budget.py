"""recmg within a DRAM budget that includes the state of the policy.

A budget pays for rows, their index, and the state of the policy, of simple policies too. It is what
s3fifo takes to hold a share of the distinct rows.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path

from bench.policies import study
from bench.policies.measure import Replay
from bench.policies.study import Models, Record, Study
from bench.scenery.tables import NONE
from tieralloc import trace as traces
from tieralloc._bindings import PlannedModel, Simulator, eviction_policy_bytes
from tieralloc.policy.planned import PREFETCH_COST

FRACTIONS = (0.05, 0.1)
ROW_BYTES = (256, 1024)
INDEX = 16  # bytes per row of the fast tier
UNLIMITED = 1 << 62
SIMPLE = ("lru", "s3fifo", "sieve")

#: Learned policies, and their bytes per row of the fast tier; None: no limit.
LEARNED = (
    ("recmg-caching", None),
    ("recmg-caching", 128),
    ("recmg", 256),
    ("recmg", 512),
    ("recmg", 1024),
)


def measure(case: str, path: Path, models: Models) -> Iterator[Record]:
    """Replay a trace within each budget; without a miss ratio if the budget is too small."""
    from tieralloc.policy.registry import load_policy

    replay = Replay(traces.read(path))
    loaded = {name: load_policy(name, str(models["recmg"])) for name, _ in LEARNED}
    for row_bytes, fraction in product(ROW_BYTES, FRACTIONS):
        place = {"row_bytes": row_bytes, "fast_fraction": fraction}
        taken = row_bytes + INDEX
        reference = replay.rows(fraction)
        budget = reference * taken + eviction_policy_bytes("s3fifo", reference)
        for policy in SIMPLE:
            rows = max_rows(budget, taken, partial(eviction_policy_bytes, policy))
            yield {"case": policy, **place, **replay.run(policy, rows)}
        for name, state in LEARNED:
            model = loaded[name].model_for(reference)
            if state is None:
                label, limit = f"{name}, as much as pays off", UNLIMITED
                rows = max_rows(budget, taken, partial(_state_bytes, replay, model))
            else:
                rows = budget // (taken + state)
                label, limit = f"{name}, {state} bytes a row", rows * state
            yield {"case": label, **place, **_within(replay, model, rows, limit)}


def max_rows(budget: int, taken: int, state: Callable[[int], int]) -> int:
    """Return how many rows of `taken` bytes fit, with the ``state(rows)`` bytes for all of them."""

    def needed(rows: int) -> int:
        return rows * taken + state(rows)

    return bisect_right(range(1, budget // taken + 1), budget, key=needed)


def _state_bytes(replay: Replay, model: PlannedModel, rows: int) -> int:
    """Return the bytes that a learned policy takes if nothing limits it."""
    stream = replay.stream
    return Simulator(
        model, rows, stream.rows, table_starts=stream.table_starts, max_bytes=UNLIMITED
    ).policy_bytes


def _within(replay: Replay, model: PlannedModel, rows: int, limit: int) -> Record:
    try:
        return replay.run(model, rows, prefetch_cost=PREFETCH_COST, max_bytes=limit)
    except ValueError:  # too few bytes for the policy
        return {}


STUDY = Study(
    "budget",
    "On-demand fetches ÷ lookups of the second half of each trace, where the same DRAM pays for"
    f" rows, {INDEX} bytes of index a row, and the state of the policy; {NONE}: too little for the"
    " policy. One seed.",
    measure,
    lambda record: f"{record['miss_ratio']:.4f}" if "miss_ratio" in record else NONE,
    columns=("trace", "row_bytes", "fast_fraction"),
)

if __name__ == "__main__":
    sys.exit(study.main(STUDY, __doc__))
