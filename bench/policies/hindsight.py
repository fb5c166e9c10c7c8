"""A bound of recmg-caching: the same model trained on the very accesses that are counted.

This is no policy: it knows the second half before it is measured there. What it misses more than
OPT, no model of its size can avoid with the same features. Its lead over a model trained on the
first half is what the future changes. Writes ``hindsight.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.policies import study
from bench.policies.__main__ import FAST_FRACTIONS
from bench.policies.evaluation import COUNT_FROM
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc.policy.simulator import run_simulator
from tieralloc.tools.report import percent
from tieralloc.tools.simulate import simulate
from tieralloc.trace.stream import count_distinct, fast_rows, first_counted

YARDSTICKS = ("lru", "opt")
TRAINED = {"recmg-caching": COUNT_FROM, "trained on all of the trace": 1.0}


def count(path: Path, directory: Path, tell: Tell) -> dict[str, list[float]]:
    """Train the caching model on half of a trace and on all of it; return miss ratios."""
    from tieralloc.policies.recmg.learning import train_caching

    from tieralloc._common.torch import one_thread
    from tieralloc.trace.stream import Stream

    made = traces.read(path)
    accesses = made.accesses()
    distinct = count_distinct(accesses, int(made.num_embeddings.sum()))
    found = {
        name: [record["miss_ratio"] for record in simulate(made, [name], FAST_FRACTIONS)]
        for name in YARDSTICKS
    }
    stream = Stream.of(made)
    for name, until in TRAINED.items():
        tell(name)
        with one_thread():
            model = train_caching(made, until=until)
        found[name] = []
        for fraction in FAST_FRACTIONS:
            tell(f"{name}, {percent(fraction)}")
            counts = run_simulator(
                stream,
                model,
                fast_rows(fraction, distinct),
                count_from=first_counted(len(accesses), COUNT_FROM),
            ).counts
            found[name].append(counts["on_demand_fetches"] / counts["lookups"])
    return found


def table(names: Sequence[str], found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Lay out what was found: a line for each training, two columns for each trace."""
    heads = [f"{name} {percent(fraction)}" for name in names for fraction in FAST_FRACTIONS]
    lines = [line(["", *heads, "mean"]), line(["---", *["---:"] * (len(heads) + 1)])]
    for label in TRAINED:
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
        " goes, and that it would go if it were trained on the second half as well. One seed;"
        " `python -m bench.policies.hindsight`.\n\n" + "\n".join(lines) + "\n"
    )


def jobs_for(path: Path, directory: Path) -> list[Job]:
    """Train on a trace."""
    return [Job(path.stem, count, (path, directory))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return study.run("hindsight", __doc__, jobs_for, table, arguments)


if __name__ == "__main__":
    sys.exit(main())
