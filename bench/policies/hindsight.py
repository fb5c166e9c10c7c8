"""A bound of recmg-caching: the same model trained on the counted accesses.

This is not a policy: its training includes the measured second half. No model of its size closes
more of the gap to OPT with the same features.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from bench.policies import study
from bench.policies.measure import Replay
from bench.policies.study import Models, Record, Study
from bench.scenery.traces import COUNT_FROM, FAST_FRACTIONS
from tieralloc import trace as traces
from tieralloc.tools.simulate import simulate

#: Share of the trace in the training.
CASES = {"trained on the first half": COUNT_FROM, "trained on all of the trace": 1.0}


def measure(case: str, path: Path, models: Models) -> Iterator[Record]:
    """Train the caching model on a share of a trace."""
    from tieralloc.policies.recmg.training import train_caching

    from tieralloc._common.torch import one_thread

    made = traces.read(path)
    replay = Replay(made)
    with one_thread():
        model = train_caching(made, until=CASES[case])
    for fraction in FAST_FRACTIONS:
        lru, opt = (r["miss_ratio"] for r in simulate(made, ["lru", "opt"], [fraction]))
        ratio = replay.run(model, replay.rows(fraction))["miss_ratio"]
        gap = (lru - ratio) / (lru - opt)
        yield {"fast_fraction": fraction, "miss_ratio": ratio, "gap_closed": gap}


def _mean(records: Sequence[Record]) -> str:
    gaps = {
        case: mean(record["gap_closed"] for record in records if record["case"] == case)
        for case in CASES
    }
    return "Mean: " + ", ".join(f"{gap:.1%} {case}" for case, gap in gaps.items()) + "."


STUDY = Study(
    "hindsight",
    "Share of the gap from LRU to OPT, in misses of the second half, that recmg-caching closes. One"
    " seed.",
    measure,
    lambda record: f"{record['gap_closed']:.1%}",
    cases=tuple(CASES),
    policies=(),
    summary=_mean,
)

if __name__ == "__main__":
    sys.exit(study.main(STUDY, __doc__))
