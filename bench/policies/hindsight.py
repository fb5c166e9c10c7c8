"""What bounds recmg-caching: the same model taught with the very accesses that are counted.

No policy: it knows the second half before it is measured there. What it still misses more than OPT
is in nothing that it is told of rows, or more than a network of that size can make of it; how much
better it is than one taught with the first half is what the future changes. Writes
``hindsight.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.policies import study
from bench.policies.__main__ import FAST_FRACTIONS
from bench.policies.evaluation import COUNT_FROM
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc.report import percent
from tieralloc.simulate import count_distinct, fast_rows, first_counted, simulate

YARDSTICKS = ("lru", "opt")
TAUGHT = {"recmg-caching": COUNT_FROM, "taught with all of the trace": 1.0}


def count(path: Path, directory: Path, tell: Tell) -> dict[str, list[float]]:
    """Teach the caching model with half of a trace and all of it; return miss ratios."""
    from tieralloc._torch import one_thread
    from tieralloc.policies.recmg.learning import SETTINGS, teach_caching
    from tieralloc.policies.recmg.policy import RecmgCachingPolicy

    made = traces.read(path)
    accesses = made.accesses()
    distinct = count_distinct(accesses, int(made.num_embeddings.sum()))
    found = {
        name: [record["miss_ratio"] for record in simulate(made, [name], FAST_FRACTIONS)]
        for name in YARDSTICKS
    }
    policy = RecmgCachingPolicy.load(directory)
    for name, until in TAUGHT.items():
        tell(name)
        with one_thread():
            models = teach_caching(made, until=until, settings=replace(SETTINGS, measured=False))
        taught = policy.with_models(models)
        found[name] = []
        for fraction in FAST_FRACTIONS:
            tell(f"{name}, {percent(fraction)}")
            counts = taught.count(
                made,
                fast_rows(fraction, distinct),
                count_from=first_counted(len(accesses), COUNT_FROM),
                report=lambda done: None,
            )
            found[name].append(counts["on_demand_fetches"] / counts["lookups"])
    return found


def table(names: Sequence[str], found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Lay out what was found: a line for each teaching, two columns for each trace."""
    heads = [f"{name} {percent(fraction)}" for name in names for fraction in FAST_FRACTIONS]
    lines = [line(["", *heads, "mean"]), line(["---", *["---:"] * (len(heads) + 1)])]
    for label in TAUGHT:
        gaps = [
            (lru - missed) / (lru - opt)
            for name in names
            for lru, opt, missed in zip(
                found[name]["lru"], found[name]["opt"], found[name][label], strict=True
            )
        ]
        lines.append(line([label, *(f"{gap:.0%}" for gap in [*gaps, sum(gaps) / len(gaps)])]))
    return (
        "# What caching could win with the same features\n\n"
        "The share of the way from LRU to OPT, in misses of the second half, that recmg-caching"
        " goes, and that it would go had it been taught with the second half as well, as many"
        " rounds of training. One seed; `python -m bench.policies.hindsight`.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def jobs_for(path: Path, directory: Path) -> list[Job]:
    """Teach with a trace."""
    return [Job(path.stem, count, (path, directory))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return study.run("hindsight", __doc__, jobs_for, table, arguments)


if __name__ == "__main__":
    sys.exit(main())
