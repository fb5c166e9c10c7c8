"""What recmg is worth where all that it remembers is paid for from the same DRAM.

Takes the policies that `make policies` left in ``build/policies`` (seed 0). A budget pays for rows,
what a tier takes beside them, and what the policy remembers; simple policies spend all of it on
rows. Writes ``budget.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from bench.policies import study
from bench.policies.evaluation import COUNT_FROM
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc._planned import PREFETCH_COST
from tieralloc.report import percent
from tieralloc.simulate import count_distinct, run_simulator, simulate
from tieralloc.trace.stream import Stream, first_counted

#: Shares of the bytes of all distinct rows.
BUDGETS = (0.05, 0.1)

ROW_BYTES = (256, 1024)
BESIDE = 20  # bytes a fast row, of index and metadata
SIMPLE = ("lru", "s3fifo", "sieve")

#: Learned policies, and the share of the budget that goes to what they remember.
LEARNED = (("recmg-caching", 0.25), ("recmg", 0.25), ("recmg", 0.5))


def count(path: Path, directory: Path, tell: Tell) -> dict[str, list[float | None]]:
    """Replay a trace within each budget; return miss ratios, None where there is too little."""
    from tieralloc.policies.recmg.policy import RecmgCachingPolicy, RecmgPolicy

    made = traces.read(path)
    stream = Stream.of(made)
    distinct = count_distinct(made.accesses(), int(made.num_embeddings.sum()))
    found: dict[str, list[float | None]] = {}

    def simple(policy: str, rows: int) -> float:
        return float(simulate(made, [policy], [rows / distinct], COUNT_FROM)[0]["miss_ratio"])

    def learned(name: str, rows: int, max_bytes: int) -> float | None:
        kind = RecmgPolicy if name == "recmg" else RecmgCachingPolicy
        policy = kind.load(directory)
        counted = first_counted(made.num_lookups, COUNT_FROM)
        try:
            counts = run_simulator(
                stream,
                policy.model_for(rows),
                rows,
                count_from=counted,
                max_bytes=max_bytes,
                prefetch_cost=PREFETCH_COST,
            ).counts
        except ValueError:  # too few bytes
            return None
        return float(counts["on_demand_fetches"] / counts["lookups"])

    for row_bytes, fraction in product(ROW_BYTES, BUDGETS):
        taken = row_bytes + BESIDE
        budget = fraction * distinct * taken
        for policy in SIMPLE:
            found.setdefault(policy, []).append(simple(policy, int(budget / taken)))
        for name, share in LEARNED:
            tell(f"{name} at {percent(fraction)} of rows of {row_bytes} bytes")
            rows = int((1 - share) * budget / taken)
            label = f"{name}, {percent(share)} of it to remember"
            found.setdefault(label, []).append(learned(name, rows, int(share * budget)))
    return found


def table(names: Sequence[str], found: Mapping[str, Mapping[str, Sequence[float | None]]]) -> str:
    """Lay out what was found: a line for each policy, a column for each trace and budget."""
    heads = [
        f"{name} {percent(fraction)} of {row_bytes} B"
        for name in names
        for row_bytes, fraction in product(ROW_BYTES, BUDGETS)
    ]
    lines = [line(["", *heads]), line(["---", *["---:"] * len(heads)])]
    for policy in found[names[0]]:
        ratios = [ratio for name in names for ratio in found[name][policy]]
        lines.append(line([policy, *("-" if one is None else f"{one:.4f}" for one in ratios)]))
    return (
        "# With all that is remembered paid for\n\n"
        "On-demand fetches ÷ lookups of the second half, where a budget of so much of the bytes"
        f" of all distinct rows, so large each, pays for fast rows ({BESIDE} bytes more each) and"
        " for what the policy remembers; -: too little for the policy. One seed;"
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
