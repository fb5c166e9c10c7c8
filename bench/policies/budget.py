"""What recmg is worth where all that it remembers is paid for from the same DRAM.

Takes the policies that `make policies` left in ``build/policies`` (seed 0). A budget pays for rows,
their index, and what the policy takes, the simple ones too. Writes ``budget.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from bench.policies import study
from bench.policies.evaluation import COUNT_FROM
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc._bindings import PlannedModel, Simulator, eviction_policy_bytes
from tieralloc.policy.planned import PREFETCH_COST
from tieralloc.policy.simulator import run_simulator
from tieralloc.tools.report import percent
from tieralloc.trace.stream import Stream, count_distinct, first_counted

#: Of the distinct rows: what s3fifo has.
FRACTIONS = (0.05, 0.1)

ROW_BYTES = (256, 1024)
INDEX = 16  # bytes a fast row
UNLIMITED = 1 << 62
SIMPLE = ("lru", "s3fifo", "sieve")

#: Learned policies, and the bytes that they take for each fast row; None: as many as pay off.
LEARNED = (
    ("recmg-caching", None),
    ("recmg-caching", 128),
    ("recmg", 256),
    ("recmg", 512),
    ("recmg", 1024),
)


def count(path: Path, directory: Path, tell: Tell) -> dict[str, list[float | None]]:
    """Replay a trace within each budget; return miss ratios, None where there is too little."""
    from tieralloc.policy.registry import load_policy

    made = traces.read(path)
    stream = Stream.of(made)
    distinct = count_distinct(stream.accesses, stream.rows)
    counted = first_counted(len(stream.accesses), COUNT_FROM)
    found: dict[str, list[float | None]] = {}

    def missed(policy: str | PlannedModel, rows: int, **options: Any) -> float | None:
        try:
            counts = run_simulator(
                stream, policy, rows, count_from=counted, prefetch_cost=PREFETCH_COST, **options
            ).counts
        except ValueError:  # too few bytes
            return None
        return float(counts["on_demand_fetches"] / counts["lookups"])

    def wanted(model: PlannedModel, rows: int) -> int:
        starts = stream.table_starts
        return Simulator(
            model, rows, stream.rows, table_starts=starts, max_bytes=UNLIMITED
        ).policy_bytes

    for row_bytes, fraction in product(ROW_BYTES, FRACTIONS):
        taken = row_bytes + INDEX
        s3fifo = int(fraction * distinct)
        budget = s3fifo * taken + eviction_policy_bytes("s3fifo", s3fifo)
        for policy in SIMPLE:
            rows = _most_rows(budget, taken, partial(eviction_policy_bytes, policy))
            found.setdefault(policy, []).append(missed(policy, rows))
        for name, each in LEARNED:
            tell(f"{name} at {percent(fraction)} of rows of {row_bytes} bytes")
            model = load_policy(name, str(directory)).model_for(s3fifo)
            if each is None:
                rows = _most_rows(budget, taken, partial(wanted, model))
                label = f"{name}, as much as pays off"
                ratio = missed(model, rows, max_bytes=UNLIMITED)
            else:
                rows = budget // (taken + each)
                label = f"{name}, {each} bytes a row"
                ratio = missed(model, rows, max_bytes=rows * each)
            found.setdefault(label, []).append(ratio)
    return found


def _most_rows(budget: int, taken: int, beside: Callable[[int], int]) -> int:
    """Return how many rows fit, of so many bytes each and `beside(rows)` for all of them."""
    fits, too_many = 1, budget // taken + 1
    while too_many - fits > 1:
        rows = (fits + too_many) // 2
        if rows * taken + beside(rows) <= budget:
            fits = rows
        else:
            too_many = rows
    return fits


def table(names: Sequence[str], found: Mapping[str, Mapping[str, Sequence[float | None]]]) -> str:
    """Lay out what was found: a line for each policy, a column for each trace and budget."""
    heads = [
        f"{name} {percent(fraction)} of {row_bytes} B"
        for name in names
        for row_bytes, fraction in product(ROW_BYTES, FRACTIONS)
    ]
    lines = [line(["", *heads]), line(["---", *["---:"] * len(heads)])]
    for policy in found[names[0]]:
        ratios = [ratio for name in names for ratio in found[name][policy]]
        lines.append(line([policy, *("-" if one is None else f"{one:.4f}" for one in ratios)]))
    return (
        "# With all that is remembered paid for\n\n"
        "On-demand fetches ÷ lookups of the second half, where the same DRAM pays for rows, so"
        f" large each, {INDEX} bytes of index a row, and what the policy takes: as much as s3fifo"
        " takes to hold a share of the distinct rows; -: too little for the policy. One seed;"
        " `python -m bench.policies.budget` after `make policies`.\n\n" + "\n".join(lines) + "\n"
    )


def jobs_for(path: Path, directory: Path) -> list[Job]:
    """Replay a trace within each budget."""
    return [Job(path.stem, count, (path, directory))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return study.run("budget", __doc__, jobs_for, table, arguments)


if __name__ == "__main__":
    sys.exit(main())
