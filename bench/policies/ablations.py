"""What the main choices in recmg are worth: each changed in turn, all else as it is.

Takes the policies that `make policies` left in ``build/policies`` (seed 0), simulates each trace
with one option of the simulator changed, and writes ``ablations.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.policies import study
from bench.policies.evaluation import COUNT_FROM
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc.policy.planned import PREFETCH_COST
from tieralloc.policy.simulator import run_simulator
from tieralloc.tools.report import percent
from tieralloc.tools.simulate import count_record
from tieralloc.trace.stream import count_distinct, fast_rows, first_counted

FRACTIONS = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Variant:
    """A changed choice.

    Parameters
    ----------
    label : str
        The change.
    policy : str
        ``recmg-caching`` or ``recmg``.
    options : mapping of str to object
        Of `tieralloc._bindings.Simulator`.
    """

    label: str
    policy: str
    options: Mapping[str, Any] = field(default_factory=dict)


COSTS = {"prefetch_cost": PREFETCH_COST}

VARIANTS = (
    Variant("recmg-caching as it is", "recmg-caching"),
    Variant("no simple policy becomes active", "recmg-caching", {"selects": False}),
    Variant("recmg as it is", "recmg", COSTS),
    Variant("a prefetched row costs nothing", "recmg", {"prefetch_cost": 0.0}),
    Variant("a prefetched row costs a tenth of a fetch", "recmg", {"prefetch_cost": 0.1}),
    Variant("a fetch takes 16 accesses", "recmg", {**COSTS, "prefetch_lag": 16}),
    Variant("a fetch takes 64 accesses", "recmg", {**COSTS, "prefetch_lag": 64}),
)


def jobs_for(path: Path, directory: Path) -> list[Job]:
    """Simulate a trace under each variant."""
    return [
        Job(f"{variant.label}, {path.stem}", count, (variant, path, directory))
        for variant in VARIANTS
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return study.run("ablations", __doc__, jobs_for, table, arguments)


def count(variant: Variant, path: Path, directory: Path, tell: Tell) -> list[dict[str, Any]]:
    """Simulate a trace under a variant; return a record for each of `FRACTIONS`."""
    from tieralloc.policy.registry import load_policy
    from tieralloc.trace.stream import Stream

    tell("simulating")
    trace = traces.read(path)
    policy = load_policy(variant.policy, str(directory))
    policy.check(trace)
    stream = Stream.of(trace)
    distinct = count_distinct(stream.accesses, stream.rows)
    counted = first_counted(len(stream.accesses), COUNT_FROM)
    records = []
    for fraction in FRACTIONS:
        rows = fast_rows(fraction, distinct)
        counts = run_simulator(
            stream, policy.model_for(rows), rows, count_from=counted, **variant.options
        ).counts
        records.append(count_record(policy.name, trace.name, fraction, rows, counts))
    return records


def table(names: Sequence[str], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Lay out what was found: a line for each variant, a column for each trace and capacity."""
    columns = [(name, place) for name in names for place in range(len(FRACTIONS))]
    head = ["", *(f"{name} {percent(FRACTIONS[place])}" for name, place in columns)]
    lines = [line(head), line(["---"] * len(head))]
    for variant in VARIANTS:
        cells = []
        for name, place in columns:
            record = found[f"{variant.label}, {name}"][place]
            text = f"{record['miss_ratio']:.4f}"
            if variant.policy == "recmg":
                text += f" ({record['prefetches_issued'] / record['lookups']:.2f})"
            cells.append(text)
        is_base = variant.label.endswith("as it is")
        lines.append(line([f"**{variant.label}**" if is_base else variant.label, *cells]))
    return (
        "# What the choices in recmg are worth\n\n"
        "On-demand fetches ÷ lookups of the second half of each trace, and in brackets rows"
        " fetched ahead an access. One seed; `python -m bench.policies.ablations` after"
        " `make policies`.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
