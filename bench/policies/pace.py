"""What recmg-caching costs a core that advises a store, and what it is worth with less of one.

Takes the policies that `make policies` left in ``build/policies`` (seed 0), and has them advise a
simulated tier as a store's runtime does: from time to time, looking at some residents for each one
that is to leave. Writes ``pace.md``: miss ratios, and accesses for each second of CPU time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.policies import study
from bench.policies.evaluation import COUNT_FROM
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import _machine
from tieralloc import trace as traces
from tieralloc._advising import CANDIDATES, FEWEST_CANDIDATES, make_guard, simulate_advised
from tieralloc._torch import one_thread
from tieralloc.simulate import count_distinct, fast_rows, first_counted, simulate

FRACTION = 0.05
FALLBACK = "s3fifo"

#: Accesses from one step to the next, and residents looked at for each one that leaves.
PACES = (
    (256, CANDIDATES),
    (1024, CANDIDATES),
    (4096, CANDIDATES),
    (16384, CANDIDATES),
    (1024, 8),
    (1024, FEWEST_CANDIDATES),
    (16384, FEWEST_CANDIDATES),
)


def count(path: Path, directory: Path, tell: Tell) -> list[dict[str, Any]]:
    """Replay a trace at each pace; return what was missed, and the time it took."""
    from tieralloc.policies.registry import brain_maker
    from tieralloc.policy_directory import read_policy

    made = traces.read(path)
    accesses = made.accesses()
    lengths = made.lengths.sum(axis=0, dtype=np.uint32)
    capacity = fast_rows(FRACTION, count_distinct(accesses, int(made.num_embeddings.sum())))
    (simple,) = simulate(made, [FALLBACK], [FRACTION], COUNT_FROM)
    found = [{"pace": None, "miss_ratio": simple["miss_ratio"]}]
    for step, candidates in PACES:
        tell(f"steps of {step} accesses, {candidates} residents")
        brain = brain_maker("recmg-caching")(read_policy(directory), capacity, None)
        began = time.process_time()
        with one_thread():
            counts = simulate_advised(
                accesses,
                lengths,
                capacity,
                brain,
                fallback=FALLBACK,
                guard=make_guard(capacity, FALLBACK),
                step=min(step, len(accesses) // 8),
                candidates=candidates,
                count_from=first_counted(len(accesses), COUNT_FROM),
            )
        seconds = time.process_time() - began
        found.append(
            {
                "pace": (step, candidates),
                "miss_ratio": counts["on_demand_fetches"] / counts["lookups"],
                "accesses_per_second": len(accesses) / seconds,
            }
        )
    return found


def table(names: Sequence[str], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Lay out what was found: a line for each pace, two columns for each trace."""
    heads = [head for name in names for head in (name, "M accesses a CPU second")]
    lines = [line(["", *heads]), line(["---", *["---:"] * len(heads)])]
    for place, label in enumerate([FALLBACK, *(f"every {s:,} accesses, {c}" for s, c in PACES)]):
        cells = []
        for name in names:
            record = found[name][place]
            speed = record.get("accesses_per_second")
            cells += [f"{record['miss_ratio']:.4f}", "" if speed is None else f"{speed / 1e6:.2f}"]
        lines.append(line([label, *cells]))
    return (
        "# What advice costs, and what less of it is worth\n\n"
        f"Miss ratios of the second half at {FRACTION:.0%} of the distinct rows: recmg-caching"
        " advises a simulated tier every so many accesses, looking at so many residents for each"
        " one that leaves; its guard included, and the tier itself. `python -m"
        f" bench.policies.pace` after `make policies`. {_machine.describe()}\n\n"
        + "\n".join(lines)
        + "\n"
    )


def jobs_for(path: Path, directory: Path) -> list[Job]:
    """Replay a trace at each pace."""
    return [Job(path.stem, count, (path, directory))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    # One at a time: it is their time that is measured.
    return study.run("pace", __doc__, jobs_for, table, arguments, processes=1)


if __name__ == "__main__":
    sys.exit(main())
